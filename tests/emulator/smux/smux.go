// Package smux is version 1 of the stream multiplexer of port sessions, for test peers of both roles, over a reliable
// message stream: frames of 8 bytes header (version, command, length and stream id little-endian) and data; message
// boundaries mean nothing.
//
// Its end of a stream is what the programs in the field do: FIN says that nothing more will be sent, and whoever gets one
// reads what had come before it and then closes as well. With HalfClose, which both sides must have agreed upon, FIN ends
// one direction only.
package smux

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// Commands.
const (
	SYN = 0
	FIN = 1
	PSH = 2
	NOP = 3
)

const (
	version      = 1
	headerBytes  = 8
	frameBytes   = 16 << 10 // of data we put into a frame at most
	messageBytes = 1024
	queueBytes   = 256 << 10 // waiting to be put into messages; then Write blocks
)

// Config of a Mux.
type Config struct {
	Client    bool // opens streams with odd ids from 3; else even ones from 2
	HalfClose bool
	// BufferBytes is what is held for all streams together before nothing more is taken; 0: 4 MiB, the protocol's number.
	BufferBytes int
	// Send sends one message of at most 1,024 bytes and may block.
	Send func([]byte) error
}

// Mux is one end of a multiplexed byte stream. Feed must be called with what the other end sends.
type Mux struct {
	cfg Config

	mu       sync.Mutex
	toSend   sync.Cond
	space    sync.Cond // in out
	taken    sync.Cond // from the streams' buffers
	out      []byte
	streams  map[uint32]*Stream
	nextID   uint32
	buffered int
	err      error
	accept   chan *Stream
	pingsIn  int

	// feeder's own
	head    []byte
	current *Stream
	left    int
}

// Stream is one connection.
type Stream struct {
	m        *Mux
	id       uint32
	readable sync.Cond
	chunks   [][]byte
	finIn    bool // the other end's FIN has come
	finOut   bool // ours has been sent
	closed   bool // we do not read any more
	deadline time.Time
}

// New makes a Mux.
func New(cfg Config) *Mux {
	if cfg.BufferBytes == 0 {
		cfg.BufferBytes = 4 << 20
	}
	m := &Mux{cfg: cfg, streams: map[uint32]*Stream{}, nextID: 2, accept: make(chan *Stream, 1024)}
	if cfg.Client {
		m.nextID = 3
	}
	m.toSend.L, m.space.L, m.taken.L = &m.mu, &m.mu, &m.mu
	go m.sendLoop()
	return m
}

func (m *Mux) sendLoop() {
	message := make([]byte, 0, messageBytes)
	for {
		m.mu.Lock()
		for len(m.out) == 0 && m.err == nil {
			m.toSend.Wait()
		}
		if m.err != nil {
			m.mu.Unlock()
			return
		}
		n := min(len(m.out), messageBytes)
		message = append(message[:0], m.out[:n]...)
		m.out = m.out[n:]
		m.space.Broadcast()
		m.mu.Unlock()
		if err := m.cfg.Send(message); err != nil {
			m.Close(err)
			return
		}
	}
}

func (m *Mux) frame(cmd byte, id uint32, data []byte) { // m.mu is held
	m.out = AppendFrame(m.out, cmd, id, data)
	m.toSend.Signal()
}

// AppendFrame writes one frame.
func AppendFrame(b []byte, cmd byte, id uint32, data []byte) []byte {
	var h [headerBytes]byte
	h[0], h[1] = version, cmd
	binary.LittleEndian.PutUint16(h[2:], uint16(len(data)))
	binary.LittleEndian.PutUint32(h[4:], id)
	return append(append(b, h[:]...), data...)
}

// Open opens a stream.
func (m *Mux) Open() (*Stream, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err != nil {
		return nil, m.err
	}
	s := m.newStream(m.nextID)
	m.nextID += 2
	m.frame(SYN, s.id, nil)
	return s, nil
}

func (m *Mux) newStream(id uint32) *Stream {
	s := &Stream{m: m, id: id}
	s.readable.L = &m.mu
	m.streams[id] = s
	return s
}

// Accept returns the next stream the other end opened.
func (m *Mux) Accept() (*Stream, error) {
	s, ok := <-m.accept
	if !ok {
		return nil, m.Err()
	}
	return s, nil
}

// Err is why the Mux ended.
func (m *Mux) Err() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.err
}

// Streams is the number of streams that neither end has done with.
func (m *Mux) Streams() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.streams)
}

// Nop sends a keep-alive.
func (m *Mux) Nop() {
	m.mu.Lock()
	m.frame(NOP, 0, nil)
	m.mu.Unlock()
}

// Close ends every stream with err.
func (m *Mux) Close(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err != nil {
		return
	}
	m.err = err
	close(m.accept)
	for _, s := range m.streams {
		s.readable.Broadcast()
	}
	m.toSend.Broadcast()
	m.space.Broadcast()
	m.taken.Broadcast()
}

// Feed takes a piece of the other end's byte stream. It blocks while the buffers are full.
func (m *Mux) Feed(p []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for len(p) > 0 {
		if m.err != nil {
			return m.err
		}
		if m.left > 0 {
			n := min(m.left, len(p))
			m.data(p[:n])
			p, m.left = p[n:], m.left-n
			continue
		}
		n := min(headerBytes-len(m.head), len(p))
		m.head = append(m.head, p[:n]...)
		p = p[n:]
		if len(m.head) == headerBytes {
			if err := m.header(m.head); err != nil {
				m.mu.Unlock()
				m.Close(err)
				m.mu.Lock()
				return err
			}
			m.head = m.head[:0]
		}
	}
	return nil
}

func (m *Mux) header(h []byte) error {
	length, id := int(binary.LittleEndian.Uint16(h[2:])), binary.LittleEndian.Uint32(h[4:])
	s := m.streams[id]
	if h[0] != version {
		return fmt.Errorf("smux: version %d", h[0])
	}
	if h[1] != PSH && length != 0 {
		return fmt.Errorf("smux: command %d with %d bytes of data", h[1], length)
	}
	switch h[1] {
	case SYN:
		if m.cfg.Client || s != nil {
			return fmt.Errorf("smux: an unexpected SYN for stream %d", id)
		}
		select {
		case m.accept <- m.newStream(id):
		default:
			return errors.New("smux: too many streams wait to be accepted")
		}
	case FIN:
		if s != nil {
			s.finIn = true
			s.readable.Broadcast()
			s.forget()
		}
	case PSH:
		m.current, m.left = s, length // of a stream that is gone: dropped
	case NOP:
		m.pingsIn++
	default:
		return fmt.Errorf("smux: command %d", h[1])
	}
	return nil
}

func (m *Mux) data(p []byte) {
	s := m.current
	if s == nil || s.closed || s.finIn {
		return
	}
	for m.buffered >= m.cfg.BufferBytes && m.err == nil {
		m.taken.Wait()
	}
	if last := len(s.chunks) - 1; last >= 0 && len(s.chunks[last])+len(p) <= cap(s.chunks[last]) {
		s.chunks[last] = append(s.chunks[last], p...)
	} else {
		s.chunks = append(s.chunks, append(make([]byte, 0, max(len(p), 32<<10)), p...))
	}
	m.buffered += len(p)
	s.readable.Broadcast()
}

// forget drops a stream both ends have done with; m.mu is held.
func (s *Stream) forget() {
	if s.finIn && s.finOut && (s.closed || len(s.chunks) == 0) {
		delete(s.m.streams, s.id)
	}
}

// ID of the stream.
func (s *Stream) ID() uint32 { return s.id }

// Read returns what has come; io.EOF after the other end's FIN.
func (s *Stream) Read(p []byte) (int, error) {
	s.m.mu.Lock()
	defer s.m.mu.Unlock()
	for {
		switch {
		case s.closed:
			return 0, net.ErrClosed
		case len(s.chunks) > 0:
			n := copy(p, s.chunks[0])
			if s.chunks[0] = s.chunks[0][n:]; len(s.chunks[0]) == 0 {
				s.chunks = s.chunks[1:]
			}
			s.m.buffered -= n
			s.m.taken.Broadcast()
			s.forget()
			return n, nil
		case s.finIn:
			return 0, io.EOF
		case s.m.err != nil:
			return 0, s.m.err
		case !s.deadline.IsZero() && !time.Now().Before(s.deadline):
			return 0, os.ErrDeadlineExceeded
		}
		s.readable.Wait()
	}
}

// SetReadDeadline makes Read fail at a time.
func (s *Stream) SetReadDeadline(t time.Time) error {
	s.m.mu.Lock()
	defer s.m.mu.Unlock()
	s.deadline = t
	s.readable.Broadcast()
	if !t.IsZero() {
		time.AfterFunc(time.Until(t), func() {
			s.m.mu.Lock()
			s.readable.Broadcast()
			s.m.mu.Unlock()
		})
	}
	return nil
}

// Write sends data; without half-close it fails once the other end's FIN has come.
func (s *Stream) Write(p []byte) (int, error) {
	written := 0
	s.m.mu.Lock()
	defer s.m.mu.Unlock()
	for written < len(p) {
		for len(s.m.out) >= queueBytes && s.m.err == nil && !s.finOut {
			s.m.space.Wait()
		}
		switch {
		case s.m.err != nil:
			return written, s.m.err
		case s.finOut:
			return written, net.ErrClosed
		case s.finIn && !s.m.cfg.HalfClose:
			return written, io.ErrClosedPipe
		}
		n := min(len(p)-written, frameBytes)
		s.m.frame(PSH, s.id, p[written:written+n])
		written += n
	}
	return written, nil
}

// CloseWrite says that nothing more will be written.
func (s *Stream) CloseWrite() error {
	s.m.mu.Lock()
	defer s.m.mu.Unlock()
	if s.finOut {
		return nil
	}
	s.finOut = true
	if s.m.err == nil {
		s.m.frame(FIN, s.id, nil)
	}
	s.m.space.Broadcast()
	s.forget()
	return s.m.err
}

// Close ends both directions; what has come and not been read is dropped.
func (s *Stream) Close() error {
	err := s.CloseWrite()
	s.m.mu.Lock()
	defer s.m.mu.Unlock()
	if !s.closed {
		s.closed = true
		for _, c := range s.chunks {
			s.m.buffered -= len(c)
		}
		s.chunks = nil
		s.m.taken.Broadcast()
		s.readable.Broadcast()
		s.forget()
	}
	return err
}
