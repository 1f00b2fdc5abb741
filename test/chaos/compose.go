package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// The compose stack: agents and servers in containers, and Docker does things to them.
// One stack, one file; every fault is a round of its own.

const (
	project        = "turnstile-chaos"
	composeAgents  = 4
	composeSession = 4 * time.Second
)

// stack is the stack as it is up. The round in it knows the servers by their host
// ports and the fleet by its name.
type stack struct {
	*round
	override string
}

// composeKinds are what Docker can do. Their run functions are given the stack's round.
func (s *stack) kinds() []kind {
	on := func(do func() error) func(*round) error { return func(*round) error { return do() } }
	return []kind{
		{name: "agent-killed", row: 1, what: "docker kill of an agent", run: on(s.agentKilled)},
		{name: "agents-killed", row: 1, what: "docker kill of all agents", run: on(s.agentsKilled)},
		{name: "agent-paused", row: 2, what: "docker pause of an agent, longer than its session", run: on(s.agentPaused)},
		{name: "agent-cut", row: 5, what: "an agent taken from its network", run: on(s.agentCut)},
		{name: "server-killed", row: 8, what: "docker kill of a server", run: on(s.serverKilled)},
		{name: "server-paused", row: 8, what: "docker pause of a server", run: on(s.serverPaused)},
		{name: "server-cut", row: 8, what: "a server taken from the others' network", run: on(s.serverCut)},
		{name: "servers-killed", row: 8, what: "docker kill of two servers of three", run: on(s.serversKilled)},
	}
}

// docker runs a command of docker's and gives what it printed.
func (s *stack) docker(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.ctx), 8*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "docker", args...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("docker %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return string(out), err
}

func (s *stack) compose(args ...string) (string, error) {
	return s.docker(append([]string{"compose", "-p", project, "-f", "docker-compose.yml", "-f", s.override}, args...)...)
}

func container(service string) string { return project + "-" + service + "-1" }
func agentService(n int) string       { return fmt.Sprintf("chaos%d", n) }
func serverService(n int) string      { return fmt.Sprintf("zookeeper%d", n) }

// up brings the stack up from nothing.
func (s *stack) up() error {
	repo, err := os.Getwd()
	if err != nil {
		return err
	}
	text := "services:\n"
	services := []string{}
	for n := 1; n <= composeAgents; n++ {
		services = append(services, agentService(n))
		text += fmt.Sprintf(`  %s:
    extends: {file: %s, service: agent}
    deploy: {replicas: 1}
    command: [run, --ack-log, %s, --session-timeout, %v]
`, agentService(n), filepath.Join(repo, "docker-compose.yml"), ackLog(n), composeSession)
	}
	if err := os.WriteFile(s.override, []byte(text), 0o644); err != nil {
		return err
	}
	if err := s.down(); err != nil {
		return err
	}
	if _, err := s.compose("build", "agent"); err != nil {
		return err
	}
	if _, err := s.compose("up", "-d", "--wait", "--wait-timeout", "180", "zookeeper1", "zookeeper2", "zookeeper3"); err != nil {
		return err
	}
	_, err = s.compose(append([]string{"up", "-d", "--no-deps", "--wait", "--wait-timeout", "120"}, services...)...)
	return err
}

func (s *stack) down() error {
	paused, err := s.docker("ps", "-q", "--filter", "label=com.docker.compose.project="+project, "--filter", "status=paused")
	if err == nil {
		for _, id := range strings.Fields(paused) {
			_, err = s.docker("unpause", id)
		}
	}
	_, failed := s.compose("--profile", "verify", "down", "-v", "--remove-orphans", "--timeout", "3")
	return errors.Join(err, failed)
}

func ackLog(n int) string { return fmt.Sprintf("/data/acks-%d.log", n) }

// goesOn waits until all agents are in the fleet and turns were committed.
func (s *stack) goesOn(agents int) error {
	from, err := s.head()
	if err != nil {
		return err
	}
	err = until(s.ctx, 2*patience, func() (bool, error) {
		now, err := s.head()
		if err != nil || now == nil || from != nil && now.Turn < from.Turn+uint64(5*agents) {
			return false, err
		}
		st, err := s.status()
		return err == nil && len(st.Agents) >= agents, err
	})
	if err != nil {
		return fmt.Errorf("%d agents go on: %w", agents, err)
	}
	return nil
}

// stackFault does something, has the fleet go on all the same, undoes it.
func (s *stack) stackFault(step string, still int, do, undo func() error) error {
	if err := s.goesOn(composeAgents); err != nil {
		return rejected("before the fault: %w", err)
	}
	if err := do(); err != nil {
		return err
	}
	if err := s.goesOn(still); err != nil {
		return errors.Join(err, undo())
	}
	s.fire(step)
	if err := undo(); err != nil {
		return err
	}
	return s.goesOn(composeAgents)
}

// does is a docker command to be run later.
func (s *stack) does(args ...string) func() error {
	return func() error { _, err := s.docker(args...); return err }
}

func (s *stack) anAgent() string  { return container(agentService(1 + s.rng.IntN(composeAgents))) }
func (s *stack) aServer() (n int) { return 1 + s.rng.IntN(3) }

func (s *stack) agentKilled() error {
	c := s.anAgent()
	return s.stackFault("docker kill", composeAgents-1, s.does("kill", c), s.does("start", c))
}

func (s *stack) agentsKilled() error {
	args := []string{"kill"}
	for n := 1; n <= composeAgents; n++ {
		args = append(args, container(agentService(n)))
	}
	start := append([]string{"start"}, args[1:]...)
	return s.stackFault("docker kill of all", composeAgents, func() error {
		return errors.Join(s.does(args...)(), s.does(start...)())
	}, func() error { return nil })
}

// agentPaused: the others go on when its session is over, and it queues again.
func (s *stack) agentPaused() error {
	c := s.anAgent()
	if err := s.goesOn(composeAgents); err != nil {
		return rejected("before the fault: %w", err)
	}
	if _, err := s.docker("pause", c); err != nil {
		return err
	}
	err := within(s.ctx, 2*patience, "the paused agent's session is over", func() bool {
		st, err := s.status()
		return err == nil && len(st.Agents) < composeAgents
	})
	if _, back := s.docker("unpause", c); err != nil || back != nil {
		return errors.Join(err, back)
	}
	s.fire("docker pause")
	return s.goesOn(composeAgents)
}

func (s *stack) agentCut() error {
	c := s.anAgent()
	return s.stackFault("docker network disconnect", composeAgents-1, func() error {
		if _, err := s.docker("network", "disconnect", project+"_clients", c); err != nil {
			return err
		}
		return within(s.ctx, 2*patience, "the agent's session is over", func() bool {
			st, err := s.status()
			return err == nil && len(st.Agents) < composeAgents
		})
	}, s.does("network", "connect", project+"_clients", c))
}

func (s *stack) serverKilled() error {
	c := container(serverService(s.aServer()))
	return s.stackFault("docker kill", composeAgents, s.does("kill", c), s.does("start", c))
}

func (s *stack) serverPaused() error {
	c := container(serverService(s.aServer()))
	return s.stackFault("docker pause", composeAgents, s.does("pause", c), s.does("unpause", c))
}

func (s *stack) serverCut() error {
	name := serverService(s.aServer())
	return s.stackFault("docker network disconnect", composeAgents,
		s.does("network", "disconnect", project+"_ensemble", container(name)),
		s.does("network", "connect", "--alias", name+".ensemble", "--alias", name, project+"_ensemble", container(name)))
}

// serversKilled: without a quorum nothing is committed.
func (s *stack) serversKilled() error {
	stays := s.aServer()
	var gone []string
	for n := 1; n <= 3; n++ {
		if n != stays {
			gone = append(gone, container(serverService(n)))
		}
	}
	if err := s.goesOn(composeAgents); err != nil {
		return rejected("before the fault: %w", err)
	}
	before, err := s.head()
	if err != nil {
		return err
	}
	if _, err := s.docker(append([]string{"kill"}, gone...)...); err != nil {
		return err
	}
	err = within(s.ctx, 2*patience, "the last server is in no quorum", func() bool { return s.ensemble.servers[stays-1].mode() == "" })
	if err == nil {
		err = s.moment(2 * composeSession)
	}
	if _, back := s.docker(append([]string{"start"}, gone...)...); err != nil || back != nil {
		return errors.Join(err, back)
	}
	s.fire("docker kill of two")
	if err := s.goesOn(composeAgents); err != nil {
		return err
	}
	return s.headMoves(&before.Turn)
}

// verdict has the verifier in its container judge the file.
func (s *stack) verdict() (v verdict, err error) {
	args := []string{"run", "--rm", "--no-deps", "-T", "verify", "verify", "/data/data.txt", "--json"}
	for n := 1; n <= composeAgents; n++ {
		args = append(args, "--acks", ackLog(n))
	}
	out, err := s.compose(append([]string{"--progress", "quiet", "--profile", "verify"}, args...)...)
	if err != nil {
		return v, err
	}
	var report struct {
		Turns, Records, Acknowledged, Faults int
	}
	if err := json.Unmarshal([]byte(out[max(0, strings.Index(out, "{")):]), &report); err != nil {
		return v, fmt.Errorf("what the verifier says: %w: %s", err, out)
	}
	v.turns, v.records, v.acks = report.Turns, report.Records, report.Acknowledged
	if report.Faults > 0 {
		err = fmt.Errorf("the verifier: %s", out)
	}
	return v, err
}
