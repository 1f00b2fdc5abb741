package zktest

import "encoding/binary"

// Opcodes of requests, as a packet carries them behind its length and xid.
const (
	OpCreate      = 1
	OpDelete      = 2
	OpGetData     = 4
	OpSync        = 9
	OpPing        = 11
	OpGetChildren = 12 // with Stat
	OpMulti       = 14
	OpSetWatches  = 101
	OpClose       = -11
	OpConnect     = -1000 // ours: a connect request has no opcode
)

// Op is the opcode of a client's packet. A connect request, which begins a
// connection, has the protocol's version, 0, where others have an xid from 1 on.
func Op(packet []byte) int32 {
	switch {
	case len(packet) < 12:
		return 0
	case binary.BigEndian.Uint32(packet[4:]) == 0:
		return OpConnect
	}
	return int32(binary.BigEndian.Uint32(packet[8:]))
}

// IsMulti tells whether a packet is a transaction.
func IsMulti(packet []byte) bool { return Op(packet) == OpMulti }

// ConnectSession is the session that a connect request asks to go on with, 0 when it
// asks for a new one.
func ConnectSession(packet []byte) int64 {
	return int64(binary.BigEndian.Uint64(packet[4+4+8+4:]))
}
