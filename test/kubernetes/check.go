package kubernetes

import (
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// Finding is one thing that is wrong.
type Finding struct {
	Rule string // the check that found it
	Text string

	form string // Text before anything was put in
}

// checker collects what is wrong.
type checker struct {
	*Manifests
	found []Finding
	used  map[string]bool // "ConfigMap agent-abc", "Secret tickets/KEY", "claim data"
}

// Check returns all that does not fit together, nil when nothing is wrong.
func Check(m *Manifests) []Finding {
	c := &checker{Manifests: m, used: map[string]bool{}}
	c.namespace()
	for _, w := range m.Workloads {
		c.selectors(w)
		c.pod(w)
		c.volumes(w)
		for _, container := range w.Containers() {
			c.references(w, container)
			c.servers(w, container)
			c.container(w, container)
		}
		c.stateful(w)
	}
	for _, s := range m.Services {
		c.service(s)
	}
	for _, b := range m.Budgets {
		if n := len(c.selected(b.Spec.Selector)); n != 1 {
			c.find("budget", "PodDisruptionBudget %s selects the pods of %d workloads, not of one", b.Name, n)
		}
	}
	for _, p := range m.Policies {
		c.policy(p)
	}
	c.unused()
	return c.found
}

func (c *checker) find(rule, format string, args ...any) {
	c.found = append(c.found, Finding{rule, fmt.Sprintf(format, args...), format})
}

func (c *checker) namespace() {
	if len(c.Namespaces) != 1 {
		c.find("namespace", "%d Namespaces, not one", len(c.Namespaces))
		return
	}
	for _, o := range c.Objects {
		if o.GetNamespace() != c.Namespaces[0].Name {
			c.find("namespace", "%T %s is in the namespace %q", o, o.GetName(), o.GetNamespace())
		}
	}
}

// --- selectors

// selected are the workloads whose pods a selector matches. None at all, where the selector
// cannot be read.
func (c *checker) selected(selector *metav1.LabelSelector) (found []Workload) {
	s, err := metav1.LabelSelectorAsSelector(selector)
	if err != nil {
		return nil
	}
	for _, w := range c.Workloads {
		if s.Matches(labels.Set(w.Pod.Labels)) {
			found = append(found, w)
		}
	}
	return found
}

func (c *checker) selects(selector *metav1.LabelSelector, w Workload) bool {
	return slices.ContainsFunc(c.selected(selector), func(o Workload) bool { return o.String() == w.String() })
}

func (c *checker) selectors(w Workload) {
	if !c.selects(w.Selector, w) {
		c.find("own pods", "%s does not select its own pods", w)
	}
	for _, other := range c.selected(w.Selector) {
		if other.String() != w.String() {
			c.find("own pods", "%s selects the pods of %s", w, other)
		}
	}
	spread := []*metav1.LabelSelector{}
	for _, s := range w.Pod.Spec.TopologySpreadConstraints {
		spread = append(spread, s.LabelSelector)
	}
	for _, term := range antiAffinity(w) {
		spread = append(spread, term.LabelSelector)
	}
	if len(spread) == 0 {
		c.find("spread", "%s: nothing keeps its pods on different nodes", w)
	}
	for _, s := range spread {
		if !c.selects(s, w) {
			c.find("spread", "%s is kept apart from pods that are not its own", w)
		}
	}
}

func antiAffinity(w Workload) []corev1.PodAffinityTerm {
	if a := w.Pod.Spec.Affinity; a != nil && a.PodAntiAffinity != nil {
		return a.PodAntiAffinity.RequiredDuringSchedulingIgnoredDuringExecution
	}
	return nil
}

// --- ports

// hasPort reports whether one of the pod's containers has the port, by name or number.
func hasPort(w Workload, port intstr.IntOrString, protocol corev1.Protocol) bool {
	return slices.ContainsFunc(w.Pod.Spec.Containers, func(container corev1.Container) bool {
		return containerHasPort(container, port, protocol)
	})
}

func containerHasPort(container corev1.Container, port intstr.IntOrString, protocol corev1.Protocol) bool {
	return slices.ContainsFunc(container.Ports, func(p corev1.ContainerPort) bool {
		same := p.Name == port.StrVal
		if port.Type == intstr.Int {
			same = p.ContainerPort == port.IntVal
		}
		return same && or(p.Protocol, corev1.ProtocolTCP) == or(protocol, corev1.ProtocolTCP)
	})
}

func or[T comparable](value, instead T) T {
	var zero T
	if value == zero {
		return instead
	}
	return value
}

func (c *checker) service(s *corev1.Service) {
	selected := c.selected(&metav1.LabelSelector{MatchLabels: s.Spec.Selector})
	if len(s.Spec.Selector) == 0 || len(selected) != 1 {
		c.find("service", "Service %s selects the pods of %d workloads, not of one", s.Name, len(selected))
		return
	}
	for _, p := range s.Spec.Ports {
		target := p.TargetPort
		if target == (intstr.IntOrString{}) {
			target = intstr.FromInt32(p.Port)
		}
		if !hasPort(selected[0], target, p.Protocol) {
			c.find("target port", "Service %s: port %d goes to %s, which %s has not", s.Name, p.Port, target.String(), selected[0])
		}
	}
}

func (c *checker) policy(p *networkingv1.NetworkPolicy) {
	to := c.selected(&p.Spec.PodSelector)
	if len(to) == 0 {
		c.find("policy", "NetworkPolicy %s selects nothing", p.Name)
	}
	for _, rule := range p.Spec.Ingress {
		for _, peer := range rule.From {
			if peer.PodSelector == nil || len(c.selected(peer.PodSelector)) == 0 {
				c.find("policy", "NetworkPolicy %s lets in pods that there are none of", p.Name)
			}
		}
		for _, port := range rule.Ports {
			for _, w := range to {
				if port.Port == nil || !hasPort(w, *port.Port, or(deref(port.Protocol), corev1.ProtocolTCP)) {
					c.find("policy port", "NetworkPolicy %s: %s has no port %s", p.Name, w, port.Port)
				}
			}
		}
	}
}

func deref[T any](p *T) T {
	var zero T
	if p == nil {
		return zero
	}
	return *p
}

// stateful checks what gives each pod of a StatefulSet its name.
func (c *checker) stateful(w Workload) {
	if w.StatefulSet == nil {
		return
	}
	i := slices.IndexFunc(c.Services, func(s *corev1.Service) bool { return s.Name == w.StatefulSet.Spec.ServiceName })
	switch {
	case i < 0:
		c.find("headless service", "%s: there is no Service %q", w, w.StatefulSet.Spec.ServiceName)
	case c.Services[i].Spec.ClusterIP != corev1.ClusterIPNone:
		c.find("headless service", "%s: the Service %s is not headless", w, c.Services[i].Name)
	case !c.selects(&metav1.LabelSelector{MatchLabels: c.Services[i].Spec.Selector}, w):
		c.find("headless service", "%s: the Service %s selects other pods", w, c.Services[i].Name)
	}
}

// servers checks that each name in a list of servers is one of a Service or of a StatefulSet's
// pod, and that it has the port.
func (c *checker) servers(w Workload, container corev1.Container) {
	for key, list := range c.Env(container) {
		if !strings.HasSuffix(key, "ZOOKEEPER_SERVERS") {
			continue
		}
		for server := range strings.SplitSeq(list, ",") {
			host, port, err := net.SplitHostPort(server)
			if err != nil || !c.answers(host, port) {
				c.find("server", "%s: %s: nothing here is %s", w, key, server)
			}
		}
	}
}

func (c *checker) answers(host, port string) bool {
	n, err := strconv.ParseInt(port, 10, 32)
	if err != nil {
		return false
	}
	pod, service, ofPod := strings.Cut(host, ".")
	if !ofPod {
		service = host
	}
	i := slices.IndexFunc(c.Services, func(s *corev1.Service) bool { return s.Name == service })
	if i < 0 {
		return false
	}
	if !ofPod {
		return slices.ContainsFunc(c.Services[i].Spec.Ports, func(p corev1.ServicePort) bool { return p.Port == int32(n) })
	}
	for _, w := range c.Workloads {
		if w.StatefulSet != nil && w.StatefulSet.Spec.ServiceName == service && slices.Contains(podNames(w), pod) {
			return hasPort(w, intstr.FromInt32(int32(n)), corev1.ProtocolTCP)
		}
	}
	return false
}

// podNames are the names of a StatefulSet's pods.
func podNames(w Workload) (names []string) {
	for i := range w.Replicas {
		names = append(names, fmt.Sprintf("%s-%d", w.Name, i))
	}
	return names
}

// --- volumes

func (c *checker) volumes(w Workload) {
	mountable := map[string]bool{} // and whether it is mounted
	for _, v := range w.Pod.Spec.Volumes {
		mountable[v.Name] = false
		switch {
		case v.PersistentVolumeClaim != nil:
			c.claim(w, v.PersistentVolumeClaim.ClaimName)
		case v.ConfigMap != nil:
			c.configMap(w, v.ConfigMap.Name)
			for _, item := range v.ConfigMap.Items {
				c.configMapKey(w, v.ConfigMap.Name, item.Key)
			}
		case v.Secret != nil:
			c.secret(w, v.Secret.SecretName)
			for _, item := range v.Secret.Items {
				c.secretKey(w, v.Secret.SecretName, item.Key)
			}
		case v.EmptyDir == nil:
			c.find("volume kind", "%s: volume %s is no claim, ConfigMap, Secret or emptyDir", w, v.Name)
		}
	}
	if w.StatefulSet != nil {
		for _, claim := range w.StatefulSet.Spec.VolumeClaimTemplates {
			mountable[claim.Name] = false
			c.storage(w.String()+": claim "+claim.Name, claim.Spec)
		}
	}
	for _, container := range w.Containers() {
		paths := map[string]bool{}
		for _, mount := range container.VolumeMounts {
			if _, there := mountable[mount.Name]; !there {
				c.find("mount", "%s: %s mounts %s, which is no volume of the pod", w, container.Name, mount.Name)
				continue
			}
			mountable[mount.Name] = true
			if paths[mount.MountPath] {
				c.find("mount", "%s: %s mounts two volumes at %s", w, container.Name, mount.MountPath)
			}
			paths[mount.MountPath] = true
		}
	}
	for name, mounted := range mountable {
		if !mounted {
			c.find("unused", "%s: nothing mounts the volume %s", w, name)
		}
	}
}

func (c *checker) claim(w Workload, name string) {
	claim := c.Claims[name]
	if claim == nil {
		c.find("claim", "%s: there is no PersistentVolumeClaim %s", w, name)
		return
	}
	c.used["claim "+name] = true
	c.storage("PersistentVolumeClaim "+name, claim.Spec)
	if w.Replicas > 1 && !slices.Contains(claim.Spec.AccessModes, corev1.ReadWriteMany) {
		c.find("shared claim", "%s: several pods share %s, which is not ReadWriteMany", w, name)
	}
}

func (c *checker) storage(what string, spec corev1.PersistentVolumeClaimSpec) {
	if spec.Resources.Requests.Storage().Sign() <= 0 || len(spec.AccessModes) == 0 {
		c.find("storage", "%s asks for no storage, or says not how it is used", what)
	}
}

// --- ConfigMaps and Secrets

func (c *checker) references(w Workload, container corev1.Container) {
	names := map[string]bool{}
	once := func(name string) {
		if names[name] {
			c.find("variable twice", "%s: %s is given %s twice", w, container.Name, name)
		}
		names[name] = true
	}
	for _, from := range container.EnvFrom {
		if r := from.ConfigMapRef; r != nil && c.configMap(w, r.Name) {
			for name := range c.ConfigMaps[r.Name].Data {
				once(name)
			}
		}
		if r := from.SecretRef; r != nil && c.secret(w, r.Name) {
			for name := range c.Secrets[r.Name] {
				c.used["Secret "+r.Name+"/"+name] = true
				once(name)
			}
		}
	}
	for _, e := range container.Env {
		once(e.Name)
		if e.ValueFrom == nil {
			continue
		}
		if r := e.ValueFrom.ConfigMapKeyRef; r != nil && c.configMap(w, r.Name) {
			c.configMapKey(w, r.Name, r.Key)
		}
		if r := e.ValueFrom.SecretKeyRef; r != nil && c.secret(w, r.Name) {
			c.secretKey(w, r.Name, r.Key)
		}
	}
}

func (c *checker) configMap(w Workload, name string) bool {
	c.used["ConfigMap "+name] = true
	if c.ConfigMaps[name] == nil {
		c.find("config map", "%s: there is no ConfigMap %s", w, name)
	}
	return c.ConfigMaps[name] != nil
}

func (c *checker) configMapKey(w Workload, name, key string) {
	if m := c.ConfigMaps[name]; m != nil {
		if _, there := m.Data[key]; !there {
			c.find("config map key", "%s: the ConfigMap %s has no %s", w, name, key)
		}
	}
}

func (c *checker) secret(w Workload, name string) bool {
	if c.Secrets[name] == nil {
		c.find("secret", "%s: there is no %s%s that shows the Secret", w, name, exampleSecret)
	}
	return c.Secrets[name] != nil
}

func (c *checker) secretKey(w Workload, name, key string) {
	c.used["Secret "+name+"/"+key] = true
	if _, there := c.Secrets[name][key]; !there {
		c.find("secret key", "%s: the Secret %s has no %s", w, name, key)
	}
}

func (c *checker) unused() {
	for name := range c.ConfigMaps {
		if !c.used["ConfigMap "+name] {
			c.find("unused", "nothing uses the ConfigMap %s", name)
		}
	}
	for name := range c.Claims {
		if !c.used["claim "+name] {
			c.find("unused", "nothing uses the PersistentVolumeClaim %s", name)
		}
	}
	for name, keys := range c.Secrets {
		for key := range keys {
			if !c.used["Secret "+name+"/"+key] {
				c.find("unused", "nothing uses %s of the Secret %s", key, name)
			}
		}
	}
}

// --- what a pod may do, and what it must say

func (c *checker) pod(w Workload) {
	spec := w.Pod.Spec
	if spec.AutomountServiceAccountToken == nil || *spec.AutomountServiceAccountToken {
		c.find("token", "%s: its pods get a token for Kubernetes", w)
	}
	if spec.EnableServiceLinks == nil || *spec.EnableServiceLinks {
		c.find("service links", "%s: each Service becomes variables, and agents refuse what begins with TURNSTILE_ and is no setting", w)
	}
	if spec.HostNetwork || spec.HostPID || spec.HostIPC {
		c.find("host", "%s: its pods are in a namespace of the host", w)
	}
	if spec.TerminationGracePeriodSeconds == nil {
		c.find("grace", "%s: it is not said how long its pods may take to end", w)
	}
	s := spec.SecurityContext
	if s == nil || s.FSGroup == nil || s.RunAsUser == nil || *s.FSGroup != *s.RunAsUser {
		c.find("security", "%s: its volumes are not given to its user (fsGroup)", w)
	}
	names, numbers := map[string]bool{}, map[string]bool{}
	for _, container := range w.Containers() {
		for _, p := range container.Ports {
			number := fmt.Sprint(p.ContainerPort, or(p.Protocol, corev1.ProtocolTCP))
			if names[p.Name] || numbers[number] {
				c.find("port twice", "%s: port %s (%s)", w, p.Name, number)
			}
			names[p.Name], numbers[number] = true, true
			if p.HostPort != 0 {
				c.find("host", "%s: port %s is the host's", w, p.Name)
			}
		}
	}
}

func (c *checker) container(w Workload, container corev1.Container) {
	name := w.String() + ": " + container.Name
	c.security(name, w, container)
	c.resources(name, container.Resources)
	if repository, tag, tagged := strings.Cut(container.Image, ":"); !tagged || tag == "latest" || repository == "" {
		c.find("image", "%s: the kustomization gives %q no tag", name, container.Image)
	}
	if slices.ContainsFunc(w.Pod.Spec.InitContainers, func(i corev1.Container) bool { return i.Name == container.Name }) {
		return // it ends, and Kubernetes waits for that
	}
	if container.ReadinessProbe == nil {
		c.find("readiness", "%s: nothing says when it is ready", name)
	}
	// An agent serves nobody, and goes on by itself: a probe that kills it would only do harm.
	if len(container.Ports) > 0 && container.LivenessProbe == nil {
		c.find("liveness", "%s: it serves, and nothing says whether it lives", name)
	}
	for _, p := range []*corev1.Probe{container.ReadinessProbe, container.LivenessProbe, container.StartupProbe} {
		c.probe(name, container, p)
	}
	env := c.Env(container)
	if listen, ok := env["LISTEN"]; ok {
		_, port, err := net.SplitHostPort(listen)
		n, wrong := strconv.ParseInt(port, 10, 32)
		if err != nil || wrong != nil || !containerHasPort(container, intstr.FromInt32(int32(n)), corev1.ProtocolTCP) {
			c.find("listen", "%s: it listens on %s, which is none of its ports", name, listen)
		}
	}
}

func (c *checker) probe(name string, container corev1.Container, p *corev1.Probe) {
	if p == nil {
		return
	}
	var port *intstr.IntOrString
	handlers := 0
	if p.Exec != nil && len(p.Exec.Command) > 0 {
		handlers++
	}
	if p.HTTPGet != nil && strings.HasPrefix(p.HTTPGet.Path, "/") {
		handlers, port = handlers+1, &p.HTTPGet.Port
	}
	if p.TCPSocket != nil {
		handlers, port = handlers+1, &p.TCPSocket.Port
	}
	if handlers != 1 {
		c.find("probe", "%s: a probe has %d ways to ask, not one", name, handlers)
	}
	if port != nil && !containerHasPort(container, *port, corev1.ProtocolTCP) {
		c.find("probe port", "%s: a probe asks port %s, which it has not", name, port)
	}
}

func (c *checker) resources(name string, r corev1.ResourceRequirements) {
	if r.Requests.Cpu().IsZero() || r.Requests.Memory().IsZero() || r.Limits.Memory().IsZero() {
		c.find("resources", "%s: requests of cpu and memory and a limit of memory are wanted", name)
	}
	for resource, limit := range r.Limits {
		if request, ok := r.Requests[resource]; ok && request.Cmp(limit) > 0 {
			c.find("resources", "%s: it asks for more %s than it may have", name, resource)
		}
	}
}

// security holds a container to what docker-compose.yml allows, and to what Kubernetes calls
// restricted. What the container does not say, the pod may.
func (c *checker) security(name string, w Workload, container corev1.Container) {
	s, pod := deref(container.SecurityContext), deref(w.Pod.Spec.SecurityContext)
	profile := or(s.SeccompProfile, pod.SeccompProfile)
	user := or(s.RunAsUser, pod.RunAsUser)
	group := or(s.RunAsGroup, pod.RunAsGroup)
	capabilities := deref(s.Capabilities)
	for _, rule := range []struct {
		kept bool
		what string
	}{
		{deref(or(s.RunAsNonRoot, pod.RunAsNonRoot)), "runAsNonRoot: true"},
		{deref(user) != 0 && deref(group) != 0, "runAsUser and runAsGroup, and not root's"},
		{deref(s.ReadOnlyRootFilesystem), "readOnlyRootFilesystem: true"},
		{s.AllowPrivilegeEscalation != nil && !*s.AllowPrivilegeEscalation, "allowPrivilegeEscalation: false"},
		{!deref(s.Privileged), "not privileged"},
		{slices.Equal(capabilities.Drop, []corev1.Capability{"ALL"}) && len(capabilities.Add) == 0, "capabilities: drop: [ALL]"},
		{profile != nil && profile.Type == corev1.SeccompProfileTypeRuntimeDefault, "seccompProfile: RuntimeDefault"},
	} {
		if !rule.kept {
			c.find("security", "%s: wanted is %s", name, rule.what)
		}
	}
}
