package iam_test

import (
	"strings"
	"testing"

	"fumidai/tests/emulator/iam"
)

func policy(t *testing.T, statements ...string) []*iam.Document {
	t.Helper()
	d, err := iam.Parse([]byte(`{"Version":"2012-10-17","Statement":[` + strings.Join(statements, ",") + `]}`))
	if err != nil {
		t.Fatal(err)
	}
	return []*iam.Document{d}
}

func TestDecide(t *testing.T) {
	const start = `"Effect":"Allow","Action":"ssm:StartSession"`
	const session = "arn:aws:ssm:us-east-1:123456789012:session/"
	ask := func(action, resource string, context ...string) iam.Request {
		r := iam.Request{Action: action, Resource: resource, Context: map[string][]string{}}
		for i := 0; i < len(context); i += 2 {
			r.Context[context[i]] = append(r.Context[context[i]], context[i+1])
		}
		return r
	}
	own := `{"Effect":"Allow","Action":"ssm:ResumeSession","Resource":"arn:aws:ssm:*:*:session/*","Condition":{"StringLike":{"ssm:resourceTag/aws:ssmmessages:session-id":["${aws:userid}"]}}}`
	for name, test := range map[string]struct {
		statements []string
		request    iam.Request
		allowed    bool
	}{
		"nothing":             {[]string{`{` + start + `,"Resource":"*"}`}, ask("ssm:ResumeSession", session+"x"), false},
		"action":              {[]string{`{` + start + `,"Resource":"*"}`}, ask("ssm:StartSession", session+"x"), true},
		"case of action":      {[]string{`{` + start + `,"Resource":"*"}`}, ask("ssm:startsession", session+"x"), true},
		"wildcard of action":  {[]string{`{"Effect":"Allow","Action":["ssm:*Session"],"Resource":"*"}`}, ask("ssm:StartSession", session+"x"), true},
		"not this action":     {[]string{`{"Effect":"Allow","NotAction":["ssm:StartSession"],"Resource":"*"}`}, ask("ssm:StartSession", "*"), false},
		"but another":         {[]string{`{"Effect":"Allow","NotAction":["ssm:StartSession"],"Resource":"*"}`}, ask("ssm:ResumeSession", "*"), true},
		"resource":            {[]string{`{` + start + `,"Resource":["arn:aws:ecs:*:*:task/c/*"]}`}, ask("ssm:StartSession", "arn:aws:ecs:r:1:task/c/0"), true},
		"another resource":    {[]string{`{` + start + `,"Resource":["arn:aws:ecs:*:*:task/c/*"]}`}, ask("ssm:StartSession", "arn:aws:ecs:r:1:task/d/0"), false},
		"case of resource":    {[]string{`{` + start + `,"Resource":["arn:aws:ecs:*:*:task/c/*"]}`}, ask("ssm:StartSession", "arn:aws:ecs:r:1:task/C/0"), false},
		"a question mark":     {[]string{`{` + start + `,"Resource":["arn:aws:ecs:?:1:task/c/*"]}`}, ask("ssm:StartSession", "arn:aws:ecs:rr:1:task/c/0"), false},
		"a dot is a dot":      {[]string{`{` + start + `,"Resource":["arn:aws:ecs:r:1:task/c.d/*"]}`}, ask("ssm:StartSession", "arn:aws:ecs:r:1:task/cxd/0"), false},
		"deny wins":           {[]string{`{` + start + `,"Resource":"*"}`, `{"Effect":"Deny","Action":"*","NotResource":["arn:aws:ecs:r:1:task/c/0"]}`}, ask("ssm:StartSession", "arn:aws:ecs:r:1:task/c/1"), false},
		"variable":            {[]string{`{` + start + `,"Resource":"arn:aws:ssm:*:*:session/${aws:username}-*"}`}, ask("ssm:StartSession", session+"me-1", "aws:username", "me"), true},
		"another's":           {[]string{`{` + start + `,"Resource":"arn:aws:ssm:*:*:session/${aws:username}-*"}`}, ask("ssm:StartSession", session+"you-1", "aws:username", "me"), false},
		"no such variable":    {[]string{`{` + start + `,"Resource":"arn:aws:ssm:*:*:session/${aws:username}*"}`}, ask("ssm:StartSession", session+"1"), false},
		"wildcard in a value": {[]string{`{` + start + `,"Resource":"arn:aws:ssm:*:*:session/${aws:username}-1"}`}, ask("ssm:StartSession", session+"you-1", "aws:username", "*"), false},
		"a literal star":      {[]string{`{` + start + `,"Resource":"arn:aws:ssm:*:*:session/${*}"}`}, ask("ssm:StartSession", session+"x"), false},
		"tag":                 {[]string{own}, ask("ssm:ResumeSession", session+"x", "aws:userid", "AROA1:me@example.com", "ssm:resourcetag/aws:ssmmessages:session-id", "AROA1:me@example.com"), true},
		"another's tag":       {[]string{own}, ask("ssm:ResumeSession", session+"x", "aws:userid", "AROA1:me", "ssm:resourcetag/aws:ssmmessages:session-id", "AROA1:you"), false},
		"no tag":              {[]string{own}, ask("ssm:ResumeSession", session+"x", "aws:userid", "AROA1:me"), false},
		"bool if exists":      {[]string{`{` + start + `,"Resource":"*","Condition":{"BoolIfExists":{"ssm:SessionDocumentAccessCheck":"true"}}}`}, ask("ssm:StartSession", "*"), true},
		"bool, false":         {[]string{`{` + start + `,"Resource":"*","Condition":{"BoolIfExists":{"ssm:SessionDocumentAccessCheck":true}}}`}, ask("ssm:StartSession", "*", "ssm:sessiondocumentaccesscheck", "false"), false},
		"ARN":                 {[]string{`{` + start + `,"Resource":"*","Condition":{"ArnEquals":{"ecs:cluster":"arn:aws:ecs:r:1:cluster/c"}}}`}, ask("ssm:StartSession", "*", "ecs:cluster", "arn:aws:ecs:r:1:cluster/c"), true},
		"all conditions":      {[]string{`{` + start + `,"Resource":"*","Condition":{"StringEquals":{"ecs:cluster":"c","aws:username":["a","b"]}}}`}, ask("ssm:StartSession", "*", "ecs:cluster", "d", "aws:username", "b"), false},
		"not equals, missing": {[]string{`{` + start + `,"Resource":"*","Condition":{"StringNotEquals":{"aws:ResourceTag/role":"bastion"}}}`}, ask("ssm:StartSession", "*"), true},
		"not equals":          {[]string{`{` + start + `,"Resource":"*","Condition":{"StringNotEquals":{"aws:ResourceTag/role":["x","bastion"]}}}`}, ask("ssm:StartSession", "*", "aws:resourcetag/role", "bastion"), false},
		"null":                {[]string{`{` + start + `,"Resource":"*","Condition":{"Null":{"aws:username":"true"}}}`}, ask("ssm:StartSession", "*", "aws:username", "me"), false},
	} {
		t.Run(name, func(t *testing.T) {
			if err := iam.Decide(policy(t, test.statements...), test.request); (err == nil) != test.allowed {
				t.Errorf("%v", err)
			}
		})
	}
}

func TestParseRefuses(t *testing.T) {
	for _, text := range []string{
		`{"Version":"2008-10-17","Statement":{"Effect":"Allow","Action":"*","Resource":"*"}}`,
		`{"Version":"2012-10-17","Statement":[]}`,
		`{"Version":"2012-10-17","Statement":[{"Effect":"allow","Action":"*","Resource":"*"}]}`,
		`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"StartSession","Resource":"*"}]}`,
		`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*"}]}`,
		`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"task/*"}]}`,
		`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"arn:aws:ssm:*:*:session/${aws:user}-*"}]}`,
		`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"StringsLike":{"aws:userid":"x"}}}]}`,
		`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"StringLike":{"ssm:tag/x":"x"}}}]}`,
		`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Actions":"*","Resource":"*"}]}`,
	} {
		if _, err := iam.Parse([]byte(text)); err == nil {
			t.Errorf("taken: %s", text)
		}
	}
}
