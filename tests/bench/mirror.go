package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"

	"fumidai/tests/emulator/agentmsg"
	"fumidai/tests/emulator/gateway/agenttest"
	"fumidai/tests/emulator/websocket"
)

// mirror starts an agent at the same gateway that does next to nothing: it acknowledges what streams bring and sends it
// back, in one goroutine. What a session through it takes is the client's and the gateway's.
func (s *site) mirror(ctx context.Context) *site {
	m := *s
	m.target = "ecs:default_" + strings.Repeat("0", 32) + "_" + strings.Repeat("0", 32) + "-1"
	ctx, cancel := context.WithCancel(ctx)
	s.later(cancel)
	agenttest.Start(ctx, agenttest.Options{BaseURL: s.api.URL, Target: m.target, Raw: reflect,
		Sign: func(r *http.Request, body []byte) { _ = s.api.Sign(r, body, "ssmmessages") }})
	return &m
}

// reflect serves one session of the mirror until its end.
func reflect(c *websocket.Conn) error {
	var scratch, frame []byte
	sequence := int64(0)
	say := func(payloadType uint32, payload []byte) error {
		m := agentmsg.Message{Type: agentmsg.OutputStreamData, Sequence: sequence, ID: agentmsg.NewUUID(), PayloadType: payloadType, Payload: payload}
		if sequence == 0 {
			m.Flags = agentmsg.SYN
		}
		sequence++
		return c.Send(websocket.Binary, agentmsg.Append(nil, &m))
	}
	request := fmt.Sprintf(`{"AgentVersion":%q,"RequestedClientActions":[{"ActionType":"SessionType","ActionParameters":`+
		`{"SessionType":"Port","Properties":{"type":"LocalPortForwarding","portNumber":"1"}}}]}`, agenttest.Version)
	if err := say(agentmsg.HandshakeRequest, []byte(request)); err != nil {
		return err
	}
	for {
		_, b, err := c.Next()
		if err != nil {
			return err
		}
		in, err := agentmsg.Parse(b)
		if err != nil {
			return err
		}
		if in.Type != agentmsg.InputStreamData {
			continue
		}
		frame, scratch = agentmsg.AppendAcknowledge(frame[:0], &in, scratch)
		if err := c.Send(websocket.Binary, frame); err != nil {
			return err
		}
		const header, dataFrame = 8, 2 // smux's: opening and closing a stream need no answer
		switch {
		case in.PayloadType == agentmsg.HandshakeResponse:
			done, _ := json.Marshal(map[string]any{"HandshakeTimeToComplete": 1, "CustomerMessage": "mirror"})
			err = say(agentmsg.HandshakeComplete, done)
		case in.PayloadType == agentmsg.Output && len(in.Payload) > header && in.Payload[1] == 0: // SYN, and data behind it
			err = say(agentmsg.Output, in.Payload[header:])
		case in.PayloadType == agentmsg.Output && len(in.Payload) > header && in.Payload[1] == dataFrame:
			err = say(agentmsg.Output, in.Payload)
		}
		if err != nil {
			return err
		}
	}
}
