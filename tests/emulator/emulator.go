// Package emulator is a one-machine Fargate: the AWS APIs that fumidai and the tools around it use, behind one port
// with real signatures and a CA of its own (package edge), ECS with a scheduler that really starts tasks (package ecs),
// as plain processes or in namespaces of their own (package fargate), and the Session Manager gateway (package gateway).
package emulator

import (
	"fmt"
	"io"
	"log/slog"
	"net"

	"fumidai/tests/emulator/edge"
)

// Options configure an emulator. The zero value works.
type Options struct {
	Region  string // default ap-northeast-1
	Account string // default 123456789012
	Address string // of the one port; default 127.0.0.1:0
	Seed    uint64 // of the fault switchboard
	Log     *slog.Logger
}

// Emulator is one running emulator.
type Emulator struct {
	Options
	Edge *edge.Edge

	addr net.Addr
}

// Credentials of the user every emulator knows, for tools and tests.
const (
	AccessKeyID     = "AKIAEMULATOR00000001"
	SecretAccessKey = "emulator/secret/key/of/the/test/operator"
)

// Start runs an emulator until Close.
func Start(o Options) (*Emulator, error) {
	if o.Region == "" {
		o.Region = "ap-northeast-1"
	}
	if o.Account == "" {
		o.Account = "123456789012"
	}
	if o.Address == "" {
		o.Address = "127.0.0.1:0"
	}
	if o.Log == nil {
		o.Log = slog.New(slog.NewTextHandler(io.Discard, nil))
	}
	front, err := edge.New(o.Log)
	if err != nil {
		return nil, err
	}
	front.Faults.Seed = o.Seed
	front.Keys.Static(AccessKeyID, SecretAccessKey, edge.Principal{
		ARN: fmt.Sprintf("arn:aws:iam::%s:user/operator", o.Account),
	})
	e := &Emulator{Options: o, Edge: front}

	// Services plug in here: front.Handle(gateway.New(...).Services()...), and so on.

	listener, err := net.Listen("tcp", o.Address)
	if err != nil {
		front.Close()
		return nil, err
	}
	e.addr = listener.Addr()
	front.Serve(listener)
	return e, nil
}

// Addr is the one port's address: host:port.
func (e *Emulator) Addr() string { return e.addr.String() }

// URL is what AWS_ENDPOINT_URL is set to.
func (e *Emulator) URL() string { return "https://" + e.Addr() }

// ProxyURL is what HTTPS_PROXY is set to, for tools that insist on the real host names.
func (e *Emulator) ProxyURL() string { return "http://" + e.Addr() }

// Close stops everything.
func (e *Emulator) Close() { e.Edge.Close() }
