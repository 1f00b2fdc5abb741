// Package wire is what the lab and its machines say to each other, by net/rpc.
package wire

import "time"

// Port is where a machine listens, on its control network.
const Port = 7000

// Mount asks for a file system to be mounted.
type Mount struct{ Source, Dir, Type, Options string }

// Start asks for a process. What it says goes to the file Log, its standard output to the
// file Out when that is not empty.
type Start struct {
	Name     string
	Args     []string
	Log, Out string
	// Feed, when it is not empty, gives the process records to read: lines that begin with
	// the word and a number, one each Pace, until Hush.
	Feed string
	Pace time.Duration
}

// Signal asks for a signal to a process.
type Signal struct {
	Name   string
	Number int
}

// Wait asks how a process ended, for so long.
type Wait struct {
	Name string
	For  time.Duration
}

// Ended tells how. Fed is how many records it was given.
type Ended struct {
	Over bool
	Code int // -1 when a signal ended it
	Fed  int
}

// Read asks for a part of a file, at most a MiB.
type Read struct {
	Path string
	At   int64
}

// Append asks for bytes at the end of a file, which is opened once and stays open.
type Append struct {
	Path string
	Data []byte
}
