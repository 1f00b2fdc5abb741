// Package recipe is the index of the recipes: what a fleet needs of ZooKeeper besides the
// file's lock, each in a package of its own.
//
//	lock     exclusive, shared, or so many at once
//	ids      numbers that nobody else has
//	elect    one leader
//	barrier  all begin together, all end together
//	live     settings that change while everybody runs
//	inbox    messages that are written to the file, each once
//
// All keep the same manner. A recipe is seen through one session, and what is had by it
// is a value that is held until Close. Its Context ends with a cause when it is lost:
// queue.ErrLost when others removed our node, the session's own when that is over. Its
// Token is a fencing token, higher than that of whoever had it before. Waiting takes a
// context; whatever fails leaves nothing behind. The places that people wait in are
// package queue's, which is the file's lock's too.
package recipe
