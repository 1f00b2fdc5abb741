// Package kubernetes looks at deploy/kubernetes without a cluster: it builds the kustomization
// as kubectl does, decodes each document strictly into Kubernetes' own types, and checks that
// what names something else names what is there.
package kubernetes

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer/json"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/api/types"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"
)

// Manifests is what kubectl would apply.
type Manifests struct {
	Objects    []metav1.Object // each of them, whatever it is
	Namespaces []*corev1.Namespace
	Services   []*corev1.Service
	ConfigMaps map[string]*corev1.ConfigMap
	Claims     map[string]*corev1.PersistentVolumeClaim
	Budgets    []*policyv1.PodDisruptionBudget
	Policies   []*networkingv1.NetworkPolicy
	Workloads  []Workload

	// Secrets is what the user makes, by name and key, as the example files show it:
	// tickets-secret.example.env is the Secret tickets.
	Secrets map[string]map[string]string
}

// Workload is a Deployment or a StatefulSet.
type Workload struct {
	Kind     string
	Name     string
	Replicas int32
	Selector *metav1.LabelSelector
	Pod      corev1.PodTemplateSpec

	StatefulSet *appsv1.StatefulSet // nil for a Deployment
}

func (w Workload) String() string { return w.Kind + " " + w.Name }

// Containers are all that run in a pod, those that go first at the front.
func (w Workload) Containers() []corev1.Container {
	return append(append([]corev1.Container{}, w.Pod.Spec.InitContainers...), w.Pod.Spec.Containers...)
}

// Load builds the kustomization in dir. Whatever is not understood is an error: an unknown
// field, one that stands twice, and a kind that nothing here checks.
func Load(dir string) (*Manifests, error) {
	if err := readStrictly(dir); err != nil {
		return nil, err
	}
	built, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), dir)
	if err != nil {
		return nil, err
	}
	m := &Manifests{ConfigMaps: map[string]*corev1.ConfigMap{}, Claims: map[string]*corev1.PersistentVolumeClaim{}}
	for _, r := range built.Resources() {
		text, err := r.AsYAML()
		if err != nil {
			return nil, err
		}
		object, err := decode(text)
		if err == nil {
			err = m.add(object)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", r.CurId(), err)
		}
	}
	m.Secrets, err = readSecrets(dir)
	return m, err
}

// readStrictly reads the files themselves: of a field that stands twice, kustomize would hand
// on one.
func readStrictly(dir string) error {
	text, err := os.ReadFile(filepath.Join(dir, "kustomization.yaml"))
	if err != nil {
		return err
	}
	var k types.Kustomization
	if err := yaml.UnmarshalStrict(text, &k); err != nil {
		return fmt.Errorf("kustomization.yaml: %w", err)
	}
	for _, name := range k.Resources {
		if filepath.Ext(name) != ".yaml" {
			continue // an overlay's base, which has files of its own
		}
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return err
		}
		documents := utilyaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(text)))
		for {
			document, err := documents.Read()
			if errors.Is(err, io.EOF) {
				break
			}
			if err == nil {
				_, err = decode(document)
			}
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
	}
	return nil
}

var strict = func() runtime.Decoder {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		corev1.AddToScheme, appsv1.AddToScheme, policyv1.AddToScheme, networkingv1.AddToScheme,
	} {
		if err := add(scheme); err != nil {
			panic(err) // only a slip in this file
		}
	}
	return json.NewSerializerWithOptions(json.DefaultMetaFactory, scheme, scheme, json.SerializerOptions{Yaml: true, Strict: true})
}()

func decode(document []byte) (runtime.Object, error) {
	object, _, err := strict.Decode(document, nil, nil)
	return object, err
}

func (m *Manifests) add(object runtime.Object) error {
	switch o := object.(type) {
	case *corev1.Namespace:
		m.Namespaces = append(m.Namespaces, o)
		return nil // the one kind that is in no namespace
	case *corev1.Service:
		m.Services = append(m.Services, o)
	case *corev1.ConfigMap:
		m.ConfigMaps[o.Name] = o
	case *corev1.PersistentVolumeClaim:
		m.Claims[o.Name] = o
	case *policyv1.PodDisruptionBudget:
		m.Budgets = append(m.Budgets, o)
	case *networkingv1.NetworkPolicy:
		m.Policies = append(m.Policies, o)
	case *appsv1.Deployment:
		m.Workloads = append(m.Workloads, Workload{"Deployment", o.Name, replicas(o.Spec.Replicas), o.Spec.Selector, o.Spec.Template, nil})
	case *appsv1.StatefulSet:
		m.Workloads = append(m.Workloads, Workload{"StatefulSet", o.Name, replicas(o.Spec.Replicas), o.Spec.Selector, o.Spec.Template, o})
	default:
		return fmt.Errorf("nothing here checks a %T", object)
	}
	m.Objects = append(m.Objects, object.(metav1.Object))
	return nil
}

func replicas(n *int32) int32 {
	if n == nil {
		return 1
	}
	return *n
}

const exampleSecret = "-secret.example.env"

func readSecrets(dir string) (map[string]map[string]string, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*"+exampleSecret))
	if err != nil {
		return nil, err
	}
	secrets := map[string]map[string]string{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		values := map[string]string{}
		for line := range strings.Lines(string(text)) {
			if key, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok && !strings.HasPrefix(line, "#") {
				values[key] = value
			}
		}
		secrets[strings.TrimSuffix(filepath.Base(file), exampleSecret)] = values
	}
	return secrets, nil
}

// Env is what the container's process finds in its environment, from here alone. What it
// refers to and is not there is left out: Check tells of that.
func (m *Manifests) Env(c corev1.Container) map[string]string {
	env := map[string]string{}
	for _, from := range c.EnvFrom {
		if r := from.ConfigMapRef; r != nil && m.ConfigMaps[r.Name] != nil {
			maps.Copy(env, m.ConfigMaps[r.Name].Data)
		}
		if r := from.SecretRef; r != nil {
			maps.Copy(env, m.Secrets[r.Name])
		}
	}
	for _, e := range c.Env {
		value := e.Value
		if from := e.ValueFrom; from != nil {
			switch {
			case from.ConfigMapKeyRef != nil && m.ConfigMaps[from.ConfigMapKeyRef.Name] != nil:
				value = m.ConfigMaps[from.ConfigMapKeyRef.Name].Data[from.ConfigMapKeyRef.Key]
			case from.SecretKeyRef != nil:
				value = m.Secrets[from.SecretKeyRef.Name][from.SecretKeyRef.Key]
			case from.FieldRef != nil:
				value = "a-pod" // the only one in use is the pod's name
			}
		}
		env[e.Name] = value
	}
	return env
}
