package main

// Google's list prices in dollars, of most regions of tier 1, as of 2026:
// https://cloud.google.com/run/pricing (paid while requests are processed),
// https://cloud.google.com/firestore/pricing (multi-region),
// https://cloud.google.com/tasks/pricing.
const (
	perVCPUSecond = 0.000024
	perGiBSecond  = 0.0000025
	perRequest    = 0.40 / 1e6
	perRead       = 0.06 / 1e5
	perWrite      = 0.18 / 1e5
	perTask       = 0.40 / 1e6
)

// perInstanceSecond is the price of an instance of one vCPU and 512 MiB.
const perInstanceSecond = perVCPUSecond + perGiBSecond/2

// Cost is the cost of a setup.
type Cost struct {
	What                     string
	InstanceSeconds          float64
	Reads, Writes, Tasks     int64
	VaultCalls               int64
	DollarsPerThousandSetups float64
}

// costOf computes the cost of a setup, and of two workers that wait for Google instead.
func costOf(m Setup) []Cost {
	const front = 3          // requests of login, callback and the frontend's first poll
	const frontSeconds = 0.3 // their time
	requests := float64(m.State.Tasks) + front + m.Seconds/poll.Seconds()
	busy := m.Busy + frontSeconds
	state := float64(m.State.Reads)*perRead + float64(m.State.Writes)*perWrite
	return []Cost{
		{
			What: "steps that a queue calls", InstanceSeconds: busy,
			Reads: m.State.Reads, Writes: m.State.Writes, Tasks: m.State.Tasks,
			VaultCalls: m.State.VaultCalls,
			DollarsPerThousandSetups: 1000 * (busy*perInstanceSecond + requests*perRequest +
				state + float64(m.State.Tasks)*perTask),
		},
		{
			What: "a worker that waits, at the same speed", InstanceSeconds: m.Seconds,
			Reads: m.State.Reads, Writes: m.State.Writes, VaultCalls: m.State.VaultCalls,
			DollarsPerThousandSetups: 1000 * (m.Seconds*perInstanceSecond + state),
		},
		{
			What:                     "a worker that waits as the predecessor did, its instance alone",
			InstanceSeconds:          m.Original,
			DollarsPerThousandSetups: 1000 * m.Original * perInstanceSecond,
		},
	}
}
