// Package load puts the system under load: hundreds of users who connect at
// once, an open loop of status polls, and one setup of as many projects as a
// setup can hold, in whose middle the functions' process is stopped.
//
// It is a test. `make test` runs a small form of it, for what must be true
// under any load: nothing is lost, nothing is stuck, and who cannot be served
// is told when to come back. `make load` runs the large form, in which the
// emulated Google takes the time and counts the quotas that the real one does,
// and which measures.
//
// The functions run in a process of their own, over the Firestore emulator, a
// real Vault and the Cloud Tasks emulator. Load is generated here and not by a
// library, because it is a loop of ten lines, and libraries measure a request
// from when it was sent: here from when it was due, so that a system that
// falls behind cannot hide it.
package load
