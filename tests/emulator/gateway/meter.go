package gateway

import "time"

// meter counts messages in a sliding window, in slots of a 1,000th of it. It looks back over the window and up to one
// slot more, so that it never counts less than an exact window would.
type meter struct {
	slot    time.Duration
	slots   [meterSlots + 1]uint32
	started time.Time
	last    int64 // number of the newest slot
	inside  int
	most    int
	total   int64
}

const meterSlots = 1000

// add counts one message and returns how many there have been in the window that ends now.
func (m *meter) add(now time.Time, window time.Duration) int {
	if m.started.IsZero() || m.slot != window/meterSlots {
		*m = meter{slot: max(window/meterSlots, 1), started: now, most: m.most, total: m.total}
	}
	n := int64(now.Sub(m.started) / m.slot)
	if n-m.last > meterSlots {
		m.slots, m.inside = [meterSlots + 1]uint32{}, 0
		m.last = n
	}
	for m.last < n {
		m.last++
		i := m.last % (meterSlots + 1)
		m.inside -= int(m.slots[i])
		m.slots[i] = 0
	}
	m.slots[n%(meterSlots+1)]++
	m.inside++
	m.total++
	m.most = max(m.most, m.inside)
	return m.inside
}
