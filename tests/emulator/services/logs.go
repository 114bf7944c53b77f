package services

import (
	"bytes"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"fumidai/tests/emulator/edge"
)

// Logs is CloudWatch Logs. Groups and streams come into being with their first event, which is what the awslogs driver
// does with streams.
type Logs struct {
	mu      sync.Mutex
	groups  []string
	streams map[string]*stream // by group, newline, stream
}

type stream struct{ events []event }

type event struct {
	Timestamp     int64  `json:"timestamp"` // milliseconds, as Logs counts
	Message       string `json:"message"`
	IngestionTime int64  `json:"ingestionTime"`
}

func (l *Logs) operations() map[string]jsonOperation {
	return map[string]jsonOperation{
		"CreateLogGroup": l.createGroup, "CreateLogStream": l.createStream, "PutLogEvents": l.putEvents, "GetLogEvents": l.getEvents,
		"DescribeLogGroups": l.describeGroups,
	}
}

// Writer is the awslogs driver: each line written becomes an event.
func (l *Logs) Writer(group, name string) io.Writer {
	return &lineWriter{logs: l, group: group, name: name}
}

type lineWriter struct {
	logs        *Logs
	group, name string
	mu          sync.Mutex
	rest        []byte
}

func (w *lineWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.rest = append(w.rest, p...)
	for {
		line, rest, found := bytes.Cut(w.rest, []byte("\n"))
		if !found {
			return len(p), nil
		}
		w.logs.add(w.group, w.name, event{Timestamp: time.Now().UnixMilli(), Message: string(line)})
		w.rest = bytes.Clone(rest)
	}
}

func (l *Logs) add(group, name string, e event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !slices.Contains(l.groups, group) {
		l.groups = append(l.groups, group)
	}
	key := group + "\n" + name
	if l.streams[key] == nil {
		l.streams[key] = &stream{}
	}
	e.IngestionTime = time.Now().UnixMilli()
	l.streams[key].events = append(l.streams[key].events, e)
}

func (l *Logs) createGroup(c *edge.Call, in document) (document, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	name := in.text("logGroupName")
	c.Resource = name
	if slices.Contains(l.groups, name) {
		return nil, &edge.Error{Code: "ResourceAlreadyExistsException", Message: "The specified log group already exists"}
	}
	l.groups = append(l.groups, name)
	return document{}, nil
}

func (l *Logs) describeGroups(_ *edge.Call, in document) (document, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	groups := []document{}
	for _, name := range l.groups {
		if strings.HasPrefix(name, in.text("logGroupNamePrefix")) {
			groups = append(groups, document{"logGroupName": name})
		}
	}
	return document{"logGroups": groups}, nil
}

func (l *Logs) createStream(c *edge.Call, in document) (document, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	group, key := in.text("logGroupName"), in.text("logGroupName")+"\n"+in.text("logStreamName")
	c.Resource = group
	if !slices.Contains(l.groups, group) {
		return nil, notFound("ResourceNotFoundException", "The specified log group does not exist.")
	}
	if l.streams[key] != nil {
		return nil, &edge.Error{Code: "ResourceAlreadyExistsException", Message: "The specified log stream already exists"}
	}
	l.streams[key] = &stream{}
	return document{}, nil
}

func (l *Logs) find(c *edge.Call, in document) (*stream, error) {
	c.Resource = in.text("logGroupName")
	s := l.streams[in.text("logGroupName")+"\n"+in.text("logStreamName")]
	if s == nil {
		return nil, notFound("ResourceNotFoundException", "The specified log stream does not exist.")
	}
	return s, nil
}

func (l *Logs) putEvents(c *edge.Call, in document) (document, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s, err := l.find(c, in)
	if err != nil {
		return nil, err
	}
	list, _ := in["logEvents"].([]any)
	for _, item := range list {
		given, _ := item.(map[string]any)
		s.events = append(s.events, event{Timestamp: int64(document(given).number("timestamp")), Message: document(given).text("message"), IngestionTime: time.Now().UnixMilli()})
	}
	return document{"nextSequenceToken": strconv.Itoa(len(s.events))}, nil
}

// getEvents pages forward: a token is the number of events read, and repeats once there are no more.
func (l *Logs) getEvents(c *edge.Call, in document) (document, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s, err := l.find(c, in)
	if err != nil {
		return nil, err
	}
	from := 0
	if token, ok := strings.CutPrefix(in.text("nextToken"), "f/"); ok {
		if from, err = strconv.Atoi(token); err != nil || from > len(s.events) {
			return nil, edge.Invalid("The specified nextToken is invalid.")
		}
	}
	limit := in.number("limit")
	if limit == 0 {
		limit = 10000
	}
	page := []event{}
	at := from
	for ; at < len(s.events) && len(page) < limit; at++ {
		if s.events[at].Timestamp >= int64(in.number("startTime")) {
			page = append(page, s.events[at])
		}
	}
	return document{"events": page, "nextForwardToken": "f/" + strconv.Itoa(at), "nextBackwardToken": "b/" + strconv.Itoa(from)}, nil
}
