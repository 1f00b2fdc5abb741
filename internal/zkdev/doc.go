// Package zkdev is a ZooKeeper server for one machine: a single node, in
// memory, speaking ZooKeeper's own wire protocol over TCP. It exists so that
// the demo and the tests need nothing but Go, while the agents run the same
// client and the same lock code as in production.
//
// # What it promises
//
// A client cannot tell it from a standalone Apache ZooKeeper 3.8 by results,
// error codes, Stats, events or their order, except where docs/zkdev.md says
// so. In particular:
//
//   - requests of all connections are applied one at a time, in one order;
//     replies leave a connection in the order of its requests;
//   - an event leaves before the reply to the write that caused it, and before
//     the reply to any later request of the connection that watches;
//   - a multi is applied whole or not at all;
//   - sequence numbers count the creates under a parent and never go back;
//   - a session that is silent for its timeout, rounded up to the next tick,
//     is expired: its ephemeral nodes go in one transaction;
//   - zxids start at the wall clock's seconds shifted left by 32 bits, so a
//     czxid used as a fencing token rises across restarts too (unless more than
//     2³² transactions a second were made, or the clock was set back).
//
// What a client sends cannot crash it or make it hold unbounded memory:
// frames, replies, connections, handshakes and unread output are all limited.
// The tree and the watches are not; whoever may connect may fill them.
//
// # What it is not
//
// There is no quorum, no persistence and no failover: when the process ends,
// every node and session is gone. It has no TLS, no SASL, no quotas and no
// reconfiguration. Nothing falls back to it silently, and it is not for
// production.
//
// # For tests
//
// [RunT] starts one that ends with the test. [Server.ExpireSession],
// [Server.DropConn], [Server.Freeze] and [Server.SetHook] make the failures
// happen that a lock must survive: a lost session, a lost connection, a server
// that says nothing, a write whose reply never arrives.
package zkdev
