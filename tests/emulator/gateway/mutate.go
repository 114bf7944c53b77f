package gateway

import (
	"encoding/binary"

	"fumidai/tests/emulator/agentmsg"
	"fumidai/tests/emulator/websocket"
)

// sender is how a channel's messages go out: as they are, or with Channel.Mutate now and then changed.
type sender struct {
	dice        *dice
	probability float64
}

// send sends one message to the channel's end. An urgent one goes out whether or not that end reads.
func (c *channel) send(b []byte, urgent bool) error {
	if s := c.sender.Load(); s != nil && s.dice.hit(s.probability) {
		return c.sendChanged(s.dice, b)
	}
	if urgent {
		return c.conn.SendUrgent(websocket.Binary, b)
	}
	return c.conn.Send(websocket.Binary, b)
}

// sendChanged sends a message that no correct gateway sends: mostly a changed agent message, sometimes a frame that is
// wrong itself, which may end the connection.
func (c *channel) sendChanged(d *dice, b []byte) error {
	switch d.below(24) {
	case 0:
		return c.conn.SendUrgent(websocket.Text, []byte("not binary"))
	case 1:
		return c.conn.SendRaw(wrongFrames[d.below(len(wrongFrames))])
	case 2: // twice, so that the second is a duplicate
		_ = c.conn.SendUrgent(websocket.Binary, b)
	case 3: // in two fragments
		half := len(b) / 2
		_ = c.conn.SendRaw(append(fragment(0x02, half), b[:half]...))
		return c.conn.SendRaw(append(fragment(0x80, len(b)-half), b[half:]...))
	default:
		b = change(d, b)
	}
	return c.conn.SendUrgent(websocket.Binary, b)
}

// fragment is the header of a server's frame of n < 65,536 bytes.
func fragment(first byte, n int) []byte {
	return []byte{first, 126, byte(n >> 8), byte(n)}
}

var wrongFrames = [][]byte{
	{0xc2, 0},                              // a reserved bit
	{0x83, 0},                              // an opcode that does not exist
	{0x80, 0},                              // a continuation of nothing
	{0x09, 0},                              // a ping in fragments
	{0x82, 0x80, 1, 2, 3, 4},               // a server's frame with a mask
	{0x82, 126, 0, 5, 1, 2, 3, 4, 5},       // a length that is not written in the fewest bytes
	{0x82, 127, 0x80, 0, 0, 0, 0, 0, 0, 0}, // a negative length
	{0x88, 1, 3},                           // a close frame of one byte
	{0x89, 126, 0, 126},                    // a ping that is too long
}

// extremes are numbers on which arithmetic without checks goes wrong.
var extremes = []uint64{0, 1, 115, 116, 117, 0x7fffffff, 0x80000000, 0xffffffff, 1 << 32, 1<<63 - 1, 1 << 63, 1<<64 - 1}

var messageTypes = []string{agentmsg.InputStreamData, agentmsg.OutputStreamData, agentmsg.Acknowledge, agentmsg.ChannelClosed,
	agentmsg.StartPublication, agentmsg.PausePublication, agentmsg.AgentSessionState, agentmsg.InteractiveShell, agentmsg.AgentTaskAck, ""}

// change returns a message with one thing wrong.
func change(d *dice, b []byte) []byte {
	b = append([]byte(nil), b...)
	if len(b) < agentmsg.HeaderBytes {
		return b
	}
	extreme := extremes[d.below(len(extremes))]
	switch d.below(12) {
	case 0:
		binary.BigEndian.PutUint32(b, uint32(extreme)) // HeaderLength
	case 1:
		binary.BigEndian.PutUint32(b[116:], uint32(extreme)) // PayloadLength
	case 2:
		binary.BigEndian.PutUint32(b[112:], uint32(extreme)) // PayloadType
	case 3:
		binary.BigEndian.PutUint64(b[48:], extreme) // SequenceNumber
	case 4:
		binary.BigEndian.PutUint64(b[56:], extreme) // Flags
	case 5:
		kind := messageTypes[d.below(len(messageTypes))]
		copy(b[4:36], append([]byte(kind), make([]byte, 32)...))
	case 6:
		b = b[:d.below(len(b))]
	case 7:
		b = append(b, make([]byte, d.below(websocket.MaxMessageBytes-len(b)))...)
	case 8:
		b = b[:agentmsg.HeaderBytes] // without payload
	case 9: // one byte of the payload, with the digest made right
		if n := len(b) - agentmsg.HeaderBytes; n > 0 {
			b[agentmsg.HeaderBytes+d.below(n)] = byte(d.below(256))
			agentmsg.Seal(b)
		}
	case 10: // half of the payload, with length and digest made right
		b = b[:agentmsg.HeaderBytes+(len(b)-agentmsg.HeaderBytes)/2]
		agentmsg.Seal(b)
	default: // a bit anywhere
		b[d.below(len(b))] ^= 1 << d.below(8)
	}
	return b
}
