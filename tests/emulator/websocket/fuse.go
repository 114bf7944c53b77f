package websocket

import (
	"errors"
	"net"
	"sync"
	"time"
)

// ErrCut is what reading and writing return once a Fuse has blown.
var ErrCut = errors.New("websocket: the connection was cut on purpose")

// Fuse is a connection that can be broken on purpose: after so many bytes in both directions together, which is nearly
// always in the middle of a frame, or stalled (nothing is read, so that the peer's TCP window fills up).
type Fuse struct {
	net.Conn
	mu      sync.Mutex
	wake    sync.Cond
	left    int64 // bytes until the cut; < 0: none planned
	stalled bool
	closed  bool
}

// NewFuse wraps nc with nothing planned.
func NewFuse(nc net.Conn) *Fuse {
	f := &Fuse{Conn: nc, left: -1}
	f.wake.L = &f.mu
	return f
}

// CutAfter plans the cut n bytes from now; a negative n calls it off.
func (f *Fuse) CutAfter(n int64) {
	f.mu.Lock()
	f.left = n
	f.mu.Unlock()
}

// Stall stops reading until Resume.
func (f *Fuse) Stall() {
	f.mu.Lock()
	f.stalled = true
	f.mu.Unlock()
}

// StallFor stops reading for a time.
func (f *Fuse) StallFor(d time.Duration) {
	f.Stall()
	time.AfterFunc(d, f.Resume)
}

// Resume ends a stall.
func (f *Fuse) Resume() {
	f.mu.Lock()
	f.stalled = false
	f.wake.Broadcast()
	f.mu.Unlock()
}

// take says how many of want bytes may still pass and books them; none left means the fuse has blown.
func (f *Fuse) take(want int) (int, error) {
	if f.left < 0 {
		return want, nil
	}
	if f.left == 0 {
		return 0, ErrCut
	}
	n := min(int64(want), f.left)
	f.left -= n
	return int(n), nil
}

func (f *Fuse) Read(b []byte) (int, error) {
	f.mu.Lock()
	for f.stalled && !f.closed {
		f.wake.Wait()
	}
	f.mu.Unlock()
	n, err := f.Conn.Read(b)
	f.mu.Lock()
	for f.stalled && !f.closed { // the stall began while this read was waiting
		f.wake.Wait()
	}
	passed, cut := f.take(n)
	blown := f.left == 0
	f.mu.Unlock()
	if cut != nil || blown {
		abort(f.Conn)
	}
	if cut != nil && n > 0 {
		return 0, cut
	}
	return passed, err
}

func (f *Fuse) Write(b []byte) (int, error) {
	f.mu.Lock()
	n, cut := f.take(len(b))
	blown := f.left == 0
	f.mu.Unlock()
	if cut == nil && n > 0 {
		var err error
		if n, err = f.Conn.Write(b[:n]); err != nil {
			return n, err
		}
	}
	if cut != nil || blown {
		abort(f.Conn)
		if n < len(b) {
			return n, ErrCut
		}
	}
	return n, nil
}

// Close also ends a stall.
func (f *Fuse) Close() error {
	f.wakeUp()
	return f.Conn.Close()
}

func (f *Fuse) wakeUp() {
	f.mu.Lock()
	f.closed = true
	f.wake.Broadcast()
	f.mu.Unlock()
}

// NetConn is the connection underneath.
func (f *Fuse) NetConn() net.Conn { return f.Conn }

// CloseWrite passes a half-close on.
func (f *Fuse) CloseWrite() error {
	if half, ok := f.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}
