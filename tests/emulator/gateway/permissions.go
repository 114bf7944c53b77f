package gateway

import (
	"encoding/json"
	"fmt"
	"strings"

	"fumidai/tests/emulator/edge"
	"fumidai/tests/emulator/iam"
)

// channelNeeds are the permissions that a call of ssmmessages takes. Control channels know no resources; a data channel is its
// session's, and knows none of the session's tags.
func (g *Gateway) channelNeeds(c *edge.Call) []iam.Request {
	resource := "*"
	if strings.HasSuffix(c.Action, "DataChannel") {
		resource = g.sessionARN(channelID(c.Request))
	}
	return []iam.Request{{Action: "ssmmessages:" + c.Action, Resource: resource}}
}

// sessionNeeds are those that a call of ssm takes.
func (g *Gateway) sessionNeeds(c *edge.Call) []iam.Request {
	var in struct{ Target, DocumentName, SessionId string }
	_ = json.Unmarshal(c.Body, &in) // a call that can't be read is refused by the operation
	action := "ssm:" + c.Action
	switch c.Action {
	case "StartSession":
		return g.startNeeds(c, in.Target, in.DocumentName)
	case "ResumeSession", "TerminateSession":
		r := iam.Request{Action: action, Resource: g.sessionARN(in.SessionId), Context: map[string][]string{}}
		if s := g.Session(in.SessionId); s != nil {
			r.Context["ssm:resourcetag/aws:ssmmessages:session-id"] = []string{s.ownerID}
			r.Context["ssm:resourcetag/aws:ssmmessages:target-id"] = []string{s.Target}
		}
		return []iam.Request{r}
	}
	return []iam.Request{{Action: action, Resource: "*"}}
}

// startNeeds: a session is started on a target, with a document. One that was not named is looked at only by those whose policy
// has the condition key ssm:SessionDocumentAccessCheck, which says whether the user may use the document.
func (g *Gateway) startNeeds(c *edge.Call, target, document string) []iam.Request {
	name := document
	if name == "" {
		name = shellDocument
	}
	account := g.cfg.Account
	if strings.HasPrefix(name, "AWS-") {
		account = ""
	}
	const key = "ssm:sessiondocumentaccesscheck"
	withDocument := iam.Request{Action: "ssm:StartSession", Resource: fmt.Sprintf("arn:aws:ssm:%s:%s:document/%s", g.cfg.Region, account, name),
		Context: map[string][]string{key: {"true"}}}
	onTarget := iam.Request{Action: "ssm:StartSession", Resource: target, Context: map[string][]string{}}
	if g.cfg.Target != nil {
		var context map[string][]string
		onTarget.Resource, context = g.cfg.Target(target)
		for k, v := range context {
			onTarget.Context[k] = v
		}
	}
	onTarget.Context[key] = []string{fmt.Sprint(c.Permitted(withDocument) == nil)}
	if document == "" {
		return []iam.Request{onTarget}
	}
	return []iam.Request{onTarget, withDocument}
}

func (g *Gateway) sessionARN(id string) string {
	return fmt.Sprintf("arn:aws:ssm:%s:%s:session/%s", g.cfg.Region, g.cfg.Account, id)
}
