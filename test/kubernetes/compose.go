package kubernetes

import (
	"fmt"
	"os"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"
)

// CheckCompose returns where the ensemble and the users differ from what docker-compose.yml
// says, which is run and broken by the project's other tests.
func CheckCompose(m *Manifests, file string) ([]Finding, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var compose struct {
		Zookeeper struct {
			User string `json:"user"`
		} `json:"x-zookeeper"`
		Settings  map[string]any `json:"x-zookeeper-environment"`
		Turnstile struct {
			User string `json:"user"`
		} `json:"x-turnstile"`
	}
	if err := yaml.Unmarshal(text, &compose); err != nil {
		return nil, err
	}
	if len(compose.Settings) == 0 || compose.Zookeeper.User == "" || compose.Turnstile.User == "" {
		return nil, fmt.Errorf("%s: no x-zookeeper, x-zookeeper-environment or x-turnstile", file)
	}
	c := &checker{Manifests: m}
	ensembles := 0
	for _, w := range m.Workloads {
		for _, container := range w.Containers() {
			user := compose.Turnstile.User
			if image(container) == "zookeeper" {
				user = compose.Zookeeper.User
				ensembles++
				c.ensemble(w)
				c.settings(w, container, compose.Settings)
			}
			s := deref(w.Pod.Spec.SecurityContext)
			if is := fmt.Sprintf("%d:%d", deref(s.RunAsUser), deref(s.RunAsGroup)); is != user {
				c.find("user", "%s runs as %s, and in compose as %s", w, is, user)
			}
		}
	}
	if ensembles != 1 {
		c.find("ensemble", "%d containers run the image zookeeper, not one", ensembles)
	}
	return c.found, nil
}

func image(c corev1.Container) string {
	name, _, _ := strings.Cut(c.Image, ":")
	return name[strings.LastIndex(name, "/")+1:]
}

func (c *checker) settings(w Workload, container corev1.Container, compose map[string]any) {
	env := c.Env(container)
	for key, value := range compose {
		switch key {
		case "ZOO_SERVERS": // names of its own, see ensemble
			continue
		case "ZOO_CFG_EXTRA": // and what only pods need
			if strings.HasPrefix(env[key], fmt.Sprint(value)) {
				continue
			}
		}
		if env[key] != fmt.Sprint(value) {
			c.find("compose setting", "%s: %s is %q, and in compose %q", w, key, env[key], fmt.Sprint(value))
		}
	}
	var servers []string
	for i, pod := range podNames(w) {
		servers = append(servers, fmt.Sprintf("server.%d=%s.%s:2888:3888;2181", i+1, pod, deref(w.StatefulSet).Spec.ServiceName))
	}
	if want := strings.Join(servers, " "); env["ZOO_SERVERS"] != want {
		c.find("ensemble", "%s: ZOO_SERVERS is %q, and its pods are %q", w, env["ZOO_SERVERS"], want)
	}
	for _, key := range []string{"ZOO_CONF_DIR", "ZOOCFGDIR"} {
		if !slices.ContainsFunc(container.VolumeMounts, func(m corev1.VolumeMount) bool { return m.MountPath == env[key] }) {
			c.find("ensemble", "%s: the configuration is written to %s (%s), where no volume is", w, env[key], key)
		}
	}
}

// ensemble checks what three servers need to become an ensemble and to stay one.
func (c *checker) ensemble(w Workload) {
	if w.StatefulSet == nil {
		c.find("ensemble", "%s is no StatefulSet", w)
		return
	}
	if w.Replicas < 3 || w.Replicas%2 == 0 {
		c.find("ensemble", "%s: %d servers", w, w.Replicas)
	}
	if w.StatefulSet.Spec.PodManagementPolicy != "Parallel" {
		c.find("ensemble", "%s: the first server would wait for ever for a quorum", w)
	}
	if !slices.ContainsFunc(antiAffinity(w), func(t corev1.PodAffinityTerm) bool { return t.TopologyKey == corev1.LabelHostname }) {
		c.find("ensemble", "%s: two servers may be on one node", w)
	}
	if !slices.ContainsFunc(c.Services, func(s *corev1.Service) bool {
		return s.Name == w.StatefulSet.Spec.ServiceName && s.Spec.PublishNotReadyAddresses
	}) {
		c.find("ensemble", "%s: servers that are not ready would have no names, and never get ready", w)
	}
	budget := false
	for _, b := range c.Budgets {
		budget = budget || c.selects(b.Spec.Selector, w) && b.Spec.MaxUnavailable != nil && b.Spec.MaxUnavailable.String() == "1"
	}
	if !budget {
		c.find("ensemble", "%s: a drained node may take more than one server (PodDisruptionBudget)", w)
	}
}
