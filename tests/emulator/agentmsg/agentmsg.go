// Package agentmsg is the binary message of the Session Manager channels, as a test peer needs it: parsed strictly,
// written without allocation.
//
//	0 HeaderLength(4)=116 | 4 MessageType(32) | 36 SchemaVersion(4) | 40 CreatedDate(8) | 48 SequenceNumber(8) |
//	56 Flags(8) | 64 MessageId(16, halves swapped) | 80 PayloadDigest(32) | 112 PayloadType(4) | 116 PayloadLength(4) | 120 Payload
package agentmsg

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	mathrand "math/rand/v2"
	"strconv"
	"sync"
	"time"
)

// Message types.
const (
	InputStreamData     = "input_stream_data"
	OutputStreamData    = "output_stream_data"
	Acknowledge         = "acknowledge"
	ChannelClosed       = "channel_closed"
	StartPublication    = "start_publication"
	PausePublication    = "pause_publication"
	AgentSessionState   = "agent_session_state"
	ControlChannelReady = "control_channel_ready"
	InteractiveShell    = "interactive_shell"
	AgentTaskComplete   = "agent_task_complete"
	AgentTaskAck        = "agent_task_acknowledge"
	AgentJob            = "agent_job"
	AgentJobAck         = "agent_job_ack"
	AgentJobReply       = "agent_job_reply"
	AgentJobReplyAck    = "agent_job_reply_ack"
)

// Payload types of stream data.
const (
	Output            = 1
	HandshakeRequest  = 5
	HandshakeResponse = 6
	HandshakeComplete = 7
	Flag              = 10
	// ClosedPayloadType is what the service writes into channel_closed.
	ClosedPayloadType = 261
)

// Payloads of a Flag message.
const (
	DisconnectToPort   = 1
	TerminateSession   = 2
	ConnectToPortError = 3
)

// Bits of Flags.
const (
	SYN = 1
	FIN = 2
)

// Sizes.
const (
	HeaderBytes     = 120
	MaxPayloadBytes = 1024 // of a stream data message
)

// Message is one agent message. Payload of a parsed one points into the bytes it was parsed from.
type Message struct {
	Type        string
	CreatedDate uint64
	Sequence    int64
	Flags       uint64
	ID          UUID
	PayloadType uint32
	Payload     []byte
}

// UUID in the order people write it.
type UUID [16]byte

var idSource = struct {
	sync.Mutex
	*mathrand.ChaCha8
}{}

func init() {
	var seed [32]byte
	_, _ = rand.Read(seed[:])
	idSource.ChaCha8 = mathrand.NewChaCha8(seed)
}

// NewUUID returns a random UUID (version 4).
func NewUUID() (u UUID) {
	idSource.Lock()
	binary.LittleEndian.PutUint64(u[0:], idSource.Uint64())
	binary.LittleEndian.PutUint64(u[8:], idSource.Uint64())
	idSource.Unlock()
	u[6] = u[6]&0x0f | 0x40
	u[8] = u[8]&0x3f | 0x80
	return u
}

// AppendText appends the dashed form.
func (u UUID) AppendText(b []byte) []byte {
	b = hex.AppendEncode(b, u[0:4])
	b = append(b, '-')
	b = hex.AppendEncode(b, u[4:6])
	b = append(b, '-')
	b = hex.AppendEncode(b, u[6:8])
	b = append(b, '-')
	b = hex.AppendEncode(b, u[8:10])
	b = append(b, '-')
	return hex.AppendEncode(b, u[10:16])
}

func (u UUID) String() string { return string(u.AppendText(make([]byte, 0, 36))) }

var typeNames = func() map[string]string {
	m := map[string]string{}
	for _, s := range []string{InputStreamData, OutputStreamData, Acknowledge, ChannelClosed, StartPublication,
		PausePublication, AgentSessionState, ControlChannelReady, InteractiveShell, AgentTaskComplete, AgentTaskAck, AgentJob,
		AgentJobAck, AgentJobReply, AgentJobReplyAck} {
		m[s] = s
	}
	return m
}()

// TypeOf is the message's type alone, for whoever only relays. b must hold at least HeaderBytes.
func TypeOf(b []byte) string {
	raw := bytes.Trim(b[4:36], " \x00")
	if s, ok := typeNames[string(raw)]; ok {
		return s
	}
	return string(raw)
}

// SequenceOf is the sequence number alone.
func SequenceOf(b []byte) int64 { return int64(binary.BigEndian.Uint64(b[48:])) }

// Parse reads the header; it checks the structure but neither PayloadLength nor the digest (see Check).
func Parse(b []byte) (m Message, err error) {
	if len(b) < HeaderBytes {
		return m, fmt.Errorf("agent message of %d bytes, shorter than its header", len(b))
	}
	header := binary.BigEndian.Uint32(b)
	if header < HeaderBytes-4 || uint64(header)+4 > uint64(len(b)) {
		return m, fmt.Errorf("agent message: HeaderLength is %d in a message of %d bytes", header, len(b))
	}
	if v := binary.BigEndian.Uint32(b[36:]); v != 1 {
		return m, fmt.Errorf("agent message: SchemaVersion is %d", v)
	}
	m.Type = TypeOf(b)
	m.CreatedDate = binary.BigEndian.Uint64(b[40:])
	m.Sequence = SequenceOf(b)
	m.Flags = binary.BigEndian.Uint64(b[56:])
	copy(m.ID[8:], b[64:72])
	copy(m.ID[:8], b[72:80])
	m.PayloadType = binary.BigEndian.Uint32(b[112:])
	m.Payload = b[header+4:]
	return m, nil
}

// Check says what is wrong with PayloadLength, PayloadDigest or padding of a message that parsed: what a correct agent or
// client never gets wrong.
func Check(b []byte) error {
	header := binary.BigEndian.Uint32(b)
	payload := b[header+4:]
	if header != HeaderBytes-4 {
		return fmt.Errorf("HeaderLength is %d, not %d", header, HeaderBytes-4)
	}
	if n := binary.BigEndian.Uint32(b[116:]); int(n) != len(payload) {
		return fmt.Errorf("PayloadLength is %d, the payload has %d bytes", n, len(payload))
	}
	if sum := sha256.Sum256(payload); !bytes.Equal(sum[:], b[80:112]) {
		return fmt.Errorf("PayloadDigest is not the payload's SHA-256")
	}
	if t := bytes.TrimRight(b[4:36], " "); bytes.IndexByte(t, 0) >= 0 || bytes.IndexByte(t, ' ') >= 0 || len(t) == 0 {
		return fmt.Errorf("MessageType %q is not padded with spaces", b[4:36])
	}
	if b[64+8+6]>>4 != 4 {
		return fmt.Errorf("MessageId is not a version 4 UUID in swapped halves")
	}
	return nil
}

var spaces = bytes.Repeat([]byte{' '}, 32)

// Append writes m in wire form.
func Append(b []byte, m *Message) []byte {
	b = binary.BigEndian.AppendUint32(b, HeaderBytes-4)
	b = append(b, m.Type...)
	b = append(b, spaces[:32-len(m.Type)]...)
	b = binary.BigEndian.AppendUint32(b, 1)
	created := m.CreatedDate
	if created == 0 {
		created = uint64(time.Now().UnixMilli())
	}
	b = binary.BigEndian.AppendUint64(b, created)
	b = binary.BigEndian.AppendUint64(b, uint64(m.Sequence))
	b = binary.BigEndian.AppendUint64(b, m.Flags)
	b = append(b, m.ID[8:]...)
	b = append(b, m.ID[:8]...)
	sum := sha256.Sum256(m.Payload)
	b = append(b, sum[:]...)
	b = binary.BigEndian.AppendUint32(b, m.PayloadType)
	b = binary.BigEndian.AppendUint32(b, uint32(len(m.Payload)))
	return append(b, m.Payload...)
}

// Seal makes PayloadLength and PayloadDigest of a whole message right again.
func Seal(b []byte) {
	payload := b[HeaderBytes:]
	sum := sha256.Sum256(payload)
	copy(b[80:], sum[:])
	binary.BigEndian.PutUint32(b[116:], uint32(len(payload)))
}

// AppendAcknowledge writes the acknowledge message for a stream data message.
func AppendAcknowledge(b []byte, of *Message, scratch []byte) ([]byte, []byte) {
	p := append(scratch[:0], `{"AcknowledgedMessageType":"`...)
	p = append(p, of.Type...)
	p = append(p, `","AcknowledgedMessageId":"`...)
	p = of.ID.AppendText(p)
	p = append(p, `","AcknowledgedMessageSequenceNumber":`...)
	p = strconv.AppendInt(p, of.Sequence, 10)
	p = append(p, `,"IsSequentialMessage":true}`...)
	return Append(b, &Message{Type: Acknowledge, Flags: SYN | FIN, ID: NewUUID(), Payload: p}), p
}

// AcknowledgedSequence reads the sequence number out of an acknowledge payload in the form everybody writes, quickly;
// ok is false if it is not there.
func AcknowledgedSequence(payload []byte) (n int64, ok bool) {
	const key = `"AcknowledgedMessageSequenceNumber":`
	at := bytes.Index(payload, []byte(key))
	if at < 0 {
		return 0, false
	}
	for i, c := range bytes.TrimLeft(payload[at+len(key):], " ") {
		if c < '0' || c > '9' {
			return n, i > 0
		}
		n, ok = n*10+int64(c-'0'), true
	}
	return n, ok
}
