package zkdev

import (
	"encoding/binary"
	"fmt"
	"runtime"
	"strings"
	"time"
)

// version is what the four-letter words say. Clients parse it for features, so
// it begins as the release that zkdev behaves like.
const version = "3.8.0-zkdev, built on 2022-02-25 08:49 UTC"

// fourLetterWords are all that a real server knows. Those served here are in
// fourLetterAnswers; the rest are answered as if an administrator had not
// allowed them.
const fourLetterWords = "conf cons crst dirs dump envi gtmk hash isro mntr ruok srst srvr stat stmk wchc wchp wchs"

var fourLetterAnswers = map[string]func(*Server, *strings.Builder){
	"ruok": func(_ *Server, b *strings.Builder) { b.WriteString("imok") },
	"isro": func(_ *Server, b *strings.Builder) { b.WriteString("rw") },
	"srvr": (*Server).writeSrvr,
	"stat": (*Server).writeStat,
	"mntr": (*Server).writeMntr,
	"conf": (*Server).writeConf,
	"envi": (*Server).writeEnvi,
}

// fourLetterWord returns the word that a connection began with, or "" if its
// first four bytes are a frame's length.
func fourLetterWord(length int32) string {
	word := string(binary.BigEndian.AppendUint32(nil, uint32(length)))
	for known := range strings.FieldsSeq(fourLetterWords) {
		if word == known {
			return word
		}
	}
	return ""
}

func (c *conn) answerFourLetterWord(word string) {
	var b strings.Builder
	if !c.server.lockThawed(c) {
		return
	}
	c.received++
	if answer := fourLetterAnswers[word]; answer != nil {
		answer(c.server, &b)
	} else {
		fmt.Fprintf(&b, "%s is not executed because it is not in the whitelist.\n", word)
	}
	c.server.mu.Unlock()
	c.net.SetWriteDeadline(time.Now().Add(flushTimeout))
	c.net.Write([]byte(b.String()))
}

// packets counts what the connections there are now have received and sent.
func (s *Server) packets() (received, sent int64) {
	for c := range s.conns {
		received += c.received
		sent += c.sent
	}
	return received, sent
}

func (s *Server) writeSrvr(b *strings.Builder) {
	fmt.Fprintf(b, "Zookeeper version: %s\n", version)
	s.writeServerStats(b)
}

func (s *Server) writeStat(b *strings.Builder) {
	fmt.Fprintf(b, "Zookeeper version: %s\nClients:\n", version)
	for c := range s.conns {
		interest := 1
		if c.session == nil {
			interest = 0
		}
		fmt.Fprintf(b, " /%s[%d](queued=0,recved=%d,sent=%d)\n", c.net.RemoteAddr(), interest, c.received, c.sent)
	}
	b.WriteByte('\n')
	s.writeServerStats(b)
}

func (s *Server) writeServerStats(b *strings.Builder) {
	received, sent := s.packets()
	fmt.Fprintf(b, "Latency min/avg/max: 0/0.0/0\nReceived: %d\nSent: %d\n", received, sent)
	fmt.Fprintf(b, "Connections: %d\nOutstanding: 0\nZxid: 0x%x\nMode: standalone\n", len(s.conns), s.zxid)
	fmt.Fprintf(b, "Node count: %d\n", len(s.tree.nodes))
}

func (s *Server) writeMntr(b *strings.Builder) {
	received, sent := s.packets()
	put := func(name string, value any) { fmt.Fprintf(b, "zk_%s\t%v\n", name, value) }
	put("version", version)
	put("server_state", "standalone")
	put("ephemerals_count", s.tree.ephemeralCount())
	put("num_alive_connections", len(s.conns))
	put("avg_latency", "0.0")
	put("min_latency", 0)
	put("max_latency", 0)
	put("outstanding_requests", 0)
	put("znode_count", len(s.tree.nodes))
	put("global_sessions", len(s.sessions))
	put("local_sessions", 0)
	put("packets_received", received)
	put("packets_sent", sent)
	put("watch_count", s.dataWatches.count())
	put("approximate_data_size", s.tree.dataSize())
	put("uptime", time.Since(s.started).Milliseconds())
}

func (s *Server) writeConf(b *strings.Builder) {
	_, port, _ := strings.Cut(s.Addr(), "]:")
	if port == "" {
		port = s.Addr()[strings.LastIndexByte(s.Addr(), ':')+1:]
	}
	fmt.Fprintf(b, "clientPort=%s\nsecureClientPort=-1\n", port)
	fmt.Fprintf(b, "dataDir=\ndataDirSize=0\ndataLogDir=\ndataLogSize=0\n")
	fmt.Fprintf(b, "tickTime=%d\nmaxClientCnxns=%d\n", s.cfg.TickTime.Milliseconds(), s.cfg.MaxConns)
	fmt.Fprintf(b, "minSessionTimeout=%d\n", s.cfg.MinSessionTimeout.Milliseconds())
	fmt.Fprintf(b, "maxSessionTimeout=%d\n", s.cfg.MaxSessionTimeout.Milliseconds())
	fmt.Fprintf(b, "clientPortListenBacklog=-1\nserverId=0\n")
}

// writeEnvi says no more than kazoo needs, which takes the version from it.
func (s *Server) writeEnvi(b *strings.Builder) {
	fmt.Fprintf(b, "Environment:\nzookeeper.version=%s\n", version)
	fmt.Fprintf(b, "os.name=%s\nos.arch=%s\n", runtime.GOOS, runtime.GOARCH)
}
