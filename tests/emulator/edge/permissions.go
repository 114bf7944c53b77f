package edge

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"strings"

	"fumidai/tests/emulator/iam"
)

// Permit gives a principal these policies: a user's ARN, or a role's for all its sessions. Whoever has been given none may do
// everything.
func (k *Keys) Permit(arn string, policies ...*iam.Document) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.policies == nil {
		k.policies = map[string][]*iam.Document{}
	}
	k.policies[arn] = append(k.policies[arn], policies...)
}

// Decide says whether a principal's policies allow all of these, and else AWS's error.
func (k *Keys) Decide(p Principal, requests ...iam.Request) error {
	k.mu.Lock()
	policies, limited := k.policies[p.ARN]
	if !limited {
		policies, limited = k.policies[p.role()]
	}
	k.mu.Unlock()
	if !limited {
		return nil
	}
	for _, r := range requests {
		context := p.context()
		maps.Copy(context, r.Context)
		r.Context = context
		if err := iam.Decide(policies, r); err != nil {
			return &Error{Code: "AccessDeniedException", Message: fmt.Sprintf("User: %s is not authorized to perform: %s on resource: %s because %v",
				p.ARN, r.Action, r.Resource, err)}
		}
	}
	return nil
}

// Permitted is Decide for the principal of a call.
func (c *Call) Permitted(requests ...iam.Request) error {
	return c.edge.Keys.Decide(c.Principal, requests...)
}

// role is the ARN of a session's role, empty for users. (A role of the SSO's has a path, which the session's ARN has not.)
func (p Principal) role() string {
	if p.Role != "" {
		return p.Role
	}
	parts := strings.Split(p.ARN, ":")
	if len(parts) != 6 || !strings.HasPrefix(parts[5], "assumed-role/") {
		return ""
	}
	name := strings.Split(parts[5], "/")[1]
	path := ""
	if strings.HasPrefix(name, "AWSReservedSSO_") {
		path = "aws-reserved/sso.amazonaws.com/"
	}
	return "arn:" + parts[1] + ":iam::" + parts[4] + ":role/" + path + name
}

// UserID is what aws:userid is: AIDA… for a user, AROA…:SESSION-NAME for a session of a role.
func (p Principal) UserID() string {
	of, prefix, suffix := p.ARN, "AIDA", ""
	if role := p.role(); role != "" {
		of, prefix, suffix = role, "AROA", ":"+p.ARN[strings.LastIndexByte(p.ARN, '/')+1:]
	}
	sum := sha256.Sum256([]byte(of))
	return prefix + strings.ToUpper(hex.EncodeToString(sum[:]))[:17] + suffix
}

// context are the condition keys of a principal. Only users have a name.
func (p Principal) context() map[string][]string {
	keys := map[string][]string{"aws:userid": {p.UserID()}, "aws:principalarn": {p.ARN}, "aws:principaltype": {"User"}}
	if role := p.role(); role != "" {
		keys["aws:principalarn"], keys["aws:principaltype"] = []string{role}, []string{"AssumedRole"}
		return keys
	}
	keys["aws:username"] = []string{p.ARN[strings.LastIndexByte(p.ARN, '/')+1:]}
	return keys
}
