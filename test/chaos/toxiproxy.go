package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"time"
)

// toxiproxy is Shopify's program of that name: TCP proxies that misbehave on demand,
// driven by HTTP.
type toxiproxy struct {
	url  string
	cmd  *exec.Cmd
	done chan struct{}
}

func startToxiproxy(ctx context.Context, program, log string) (*toxiproxy, error) {
	ports, err := freePorts(1)
	if err != nil {
		return nil, err
	}
	out, err := os.Create(log)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	x := &toxiproxy{url: fmt.Sprintf("http://127.0.0.1:%d", ports[0]), done: make(chan struct{})}
	x.cmd = exec.Command(program, "-host", "127.0.0.1", "-port", fmt.Sprint(ports[0]))
	x.cmd.Env = append(os.Environ(), "LOG_LEVEL=error")
	x.cmd.Stdout, x.cmd.Stderr = out, out
	if err := start(x.cmd); err != nil {
		return nil, fmt.Errorf("start toxiproxy: %w", err)
	}
	go func() { // ends with the process, which stop kills
		_ = x.cmd.Wait()
		close(x.done)
	}()
	err = within(ctx, 20*time.Second, "toxiproxy answers", func() bool {
		return x.call(ctx, http.MethodGet, "/version", nil, nil) == nil
	})
	if err != nil {
		x.stop()
		return nil, err
	}
	return x, nil
}

func (x *toxiproxy) stop() {
	_ = x.cmd.Process.Kill() // it may have ended
	<-x.done
}

// call speaks HTTP with it; in and out may be nil.
func (x *toxiproxy) call(ctx context.Context, method, path string, in, out any) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, method, x.url+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		return err
	}
	if res.StatusCode >= 300 {
		return fmt.Errorf("toxiproxy: %s %s: %s: %s", method, path, res.Status, text)
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(text, out)
}

// link is one proxy: a wire to one server.
type link struct {
	x      *toxiproxy
	name   string
	listen string
}

func (x *toxiproxy) link(ctx context.Context, name, listen, upstream string) (link, error) {
	var made struct {
		Listen string `json:"listen"`
	}
	err := x.call(ctx, http.MethodPost, "/proxies", map[string]any{
		"name": name, "listen": listen, "upstream": upstream, "enabled": true,
	}, &made)
	return link{x: x, name: name, listen: made.Listen}, err
}

func (l link) remove(ctx context.Context) error {
	return l.x.call(ctx, http.MethodDelete, "/proxies/"+l.name, nil, nil)
}

// enable cuts all connections and refuses new ones, or takes them again.
func (l link) enable(ctx context.Context, on bool) error {
	return l.x.call(ctx, http.MethodPost, "/proxies/"+l.name, map[string]any{"enabled": on}, nil)
}

// reset takes every toxic away and enables every link.
func (x *toxiproxy) reset(ctx context.Context) error {
	return x.call(ctx, http.MethodPost, "/reset", nil, nil)
}

// toxic is something that toxiproxy does to what passes.
type toxic struct {
	kind       string
	stream     string // upstream: what the client says; downstream: what the server says
	attributes map[string]any
}

// dropped says nothing more in one direction, and keeps the connection.
func dropped(stream string) toxic { return toxic{"timeout", stream, map[string]any{"timeout": 0}} }

func (l link) add(ctx context.Context, t toxic) error {
	return l.x.call(ctx, http.MethodPost, "/proxies/"+l.name+"/toxics", map[string]any{
		"name": t.kind + "-" + t.stream, "type": t.kind, "stream": t.stream, "attributes": t.attributes,
	}, nil)
}

func (l link) drop(ctx context.Context, t toxic) error {
	return l.x.call(ctx, http.MethodDelete, "/proxies/"+l.name+"/toxics/"+t.kind+"-"+t.stream, nil, nil)
}
