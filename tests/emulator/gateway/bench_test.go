package gateway_test

import (
	"fmt"
	"io"
	"net"
	"testing"

	"fumidai/tests/emulator/agentmsg"
	"fumidai/tests/emulator/client"
	"fumidai/tests/emulator/gateway"
	"fumidai/tests/emulator/gateway/agenttest"
	"fumidai/tests/emulator/websocket"
)

// BenchmarkRelay is the gateway alone: 1,024-byte messages from a websocket to a websocket, by ends that do nothing. At
// least 200 MB/s, so that the gateway is not what a benchmark of the relay measures.
func BenchmarkRelay(b *testing.B) {
	for _, check := range []bool{false, true} {
		b.Run(fmt.Sprintf("check=%v", check), func(b *testing.B) { benchmarkRelay(b, check) })
	}
}

func benchmarkRelay(b *testing.B, check bool) {
	sockets := make(chan *websocket.Conn)
	w := newWorld(b, func(o *agenttest.Options) {
		o.Raw = func(c *websocket.Conn) error {
			sockets <- c
			_, _, err := c.Next()
			return err
		}
	})
	w.gw.Set(func(s *gateway.Settings) { s.Check, s.NoPublication = check, true })
	o, err := w.api.Start(w.ctx, target, "AWS-StartPortForwardingSession", map[string][]string{"portNumber": {"1"}})
	if err != nil {
		b.Fatal(err)
	}
	to, err := websocket.Dial(w.ctx, o.StreamURL, nil, nil)
	if err != nil {
		b.Fatal(err)
	}
	_ = to.Send(websocket.Text, fmt.Appendf(nil, `{"MessageSchemaVersion":"1.0","RequestId":%q,"TokenValue":%q,"ClientId":%q,"ClientVersion":"1.2.3.0"}`,
		agentmsg.NewUUID(), o.Token, agentmsg.NewUUID()))
	from := <-sockets
	frame := agentmsg.Append(nil, &agentmsg.Message{Type: agentmsg.OutputStreamData, Sequence: 1, ID: agentmsg.NewUUID(),
		PayloadType: agentmsg.Output, Payload: make([]byte, agentmsg.MaxPayloadBytes)})
	b.SetBytes(agentmsg.MaxPayloadBytes)
	b.ResetTimer()
	go func() {
		for range b.N {
			if from.Send(websocket.Binary, frame) != nil {
				return
			}
		}
	}()
	for n := 0; n < b.N; {
		_, got, err := to.Next()
		if err != nil {
			b.Fatal(err)
		}
		if len(got) == len(frame) {
			n++
		}
	}
}

// BenchmarkEndToEnd is a download through everything: target, reference agent, gateway, client.
func BenchmarkEndToEnd(b *testing.B) {
	const chunk = 1 << 20
	w := newWorld(b)
	port := listen(b, func(c net.Conn) {
		buf := make([]byte, chunk)
		for range b.N {
			_, _ = c.Write(buf)
		}
	})
	c := w.open(port, func(*client.Options) {})
	s, err := c.Dial()
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(chunk)
	b.ResetTimer()
	if n, err := io.Copy(io.Discard, s); err != nil || n != int64(b.N)*chunk {
		b.Fatalf("%d bytes, %v", n, err)
	}
}
