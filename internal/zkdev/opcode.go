package zkdev

import "fmt"

// Opcode is a request's type as it stands on the wire.
type Opcode int32

// The operations of the protocol, by ZooKeeper's names.
const (
	OpNotify               Opcode = 0
	OpCreate               Opcode = 1
	OpDelete               Opcode = 2
	OpExists               Opcode = 3
	OpGetData              Opcode = 4
	OpSetData              Opcode = 5
	OpGetACL               Opcode = 6
	OpSetACL               Opcode = 7
	OpGetChildren          Opcode = 8
	OpSync                 Opcode = 9
	OpPing                 Opcode = 11
	OpGetChildren2         Opcode = 12
	OpCheck                Opcode = 13
	OpMulti                Opcode = 14
	OpCreate2              Opcode = 15
	OpReconfig             Opcode = 16
	OpCheckWatches         Opcode = 17
	OpRemoveWatches        Opcode = 18
	OpCreateContainer      Opcode = 19
	OpDeleteContainer      Opcode = 20
	OpCreateTTL            Opcode = 21
	OpMultiRead            Opcode = 22
	OpAuth                 Opcode = 100
	OpSetWatches           Opcode = 101
	OpSASL                 Opcode = 102
	OpGetEphemerals        Opcode = 103
	OpGetAllChildrenNumber Opcode = 104
	OpSetWatches2          Opcode = 105
	OpAddWatch             Opcode = 106
	OpWhoAmI               Opcode = 107
	OpCreateSession        Opcode = -10
	OpCloseSession         Opcode = -11
	OpError                Opcode = -1
)

var opNames = map[Opcode]string{
	OpNotify: "notify", OpCreate: "create", OpDelete: "delete", OpExists: "exists",
	OpGetData: "getData", OpSetData: "setData", OpGetACL: "getACL", OpSetACL: "setACL",
	OpGetChildren: "getChildren", OpSync: "sync", OpPing: "ping", OpGetChildren2: "getChildren2",
	OpCheck: "check", OpMulti: "multi", OpCreate2: "create2", OpReconfig: "reconfig",
	OpCheckWatches: "checkWatches", OpRemoveWatches: "removeWatches",
	OpCreateContainer: "createContainer", OpDeleteContainer: "deleteContainer",
	OpCreateTTL: "createTTL", OpMultiRead: "multiRead", OpAuth: "auth",
	OpSetWatches: "setWatches", OpSASL: "sasl", OpGetEphemerals: "getEphemerals",
	OpGetAllChildrenNumber: "getAllChildrenNumber", OpSetWatches2: "setWatches2",
	OpAddWatch: "addWatch", OpWhoAmI: "whoAmI", OpCreateSession: "createSession",
	OpCloseSession: "closeSession", OpError: "error",
}

func (op Opcode) String() string {
	if name, ok := opNames[op]; ok {
		return name
	}
	return fmt.Sprintf("opcode %d", int32(op))
}

// The flags of a create.
const (
	flagPersistent = iota
	flagEphemeral
	flagSequential
	flagEphemeralSequential
	flagContainer
	flagTTL
	flagSequentialTTL
)

// The xids under which a server speaks unasked, or answers out of count.
const (
	xidNotification = -1
	xidPing         = -2
)

// errCode is a reply's error as it stands on the wire; 0 is success.
type errCode int32

const (
	errOK                      errCode = 0
	errRuntimeInconsistency    errCode = -2
	errMarshalling             errCode = -5
	errUnimplemented           errCode = -6
	errBadArguments            errCode = -8
	errNoNode                  errCode = -101
	errNoAuth                  errCode = -102
	errBadVersion              errCode = -103
	errNoChildrenForEphemerals errCode = -108
	errNodeExists              errCode = -110
	errNotEmpty                errCode = -111
	errInvalidACL              errCode = -114
	errAuthFailed              errCode = -115
	errNoWatcher               errCode = -121
	errReconfigDisabled        errCode = -123
)
