// infra/ held together: the CloudFormation template, the policies written out, and what the tools call.

package infra

import (
	"encoding/json"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"
)

const dir = "../../infra/"

// list is one text or several, as IAM and YAML both allow. Functions of CloudFormation's (!Sub) are taken for their text.
type list []string

func (l *list) UnmarshalYAML(n *yaml.Node) error {
	if n.Kind == yaml.ScalarNode {
		*l = list{n.Value}
		return nil
	}
	for _, child := range n.Content {
		*l = append(*l, child.Value)
	}
	return nil
}

// template reads the roles' statements and the security groups of the template.
func template(t *testing.T) (text string, resources map[string]yaml.Node) {
	t.Helper()
	b, err := os.ReadFile(dir + "cloudformation.yml")
	if err != nil {
		t.Fatal(err)
	}
	var whole struct {
		Resources map[string]yaml.Node `yaml:"Resources"`
	}
	if err := yaml.Unmarshal(b, &whole); err != nil {
		t.Fatal(err)
	}
	return string(b), whole.Resources
}

// at walks down a YAML document; nil if it does not go so far.
func at(n *yaml.Node, path ...string) *yaml.Node {
	for _, name := range path {
		if n == nil || n.Kind != yaml.MappingNode {
			return nil
		}
		var next *yaml.Node
		for i := 0; i+1 < len(n.Content); i += 2 {
			if n.Content[i].Value == name {
				next = n.Content[i+1]
			}
		}
		n = next
	}
	return n
}

func texts(n *yaml.Node) []string {
	var l list
	if n != nil {
		_ = l.UnmarshalYAML(n)
	}
	return l
}

// granted maps the actions of a resource's policies to the resources they are granted on.
func granted(t *testing.T, n yaml.Node) map[string][]string {
	t.Helper()
	actions := map[string][]string{}
	documents := []*yaml.Node{at(&n, "Properties", "PolicyDocument")}
	if policies := at(&n, "Properties", "Policies"); policies != nil {
		for _, p := range policies.Content {
			documents = append(documents, at(p, "PolicyDocument"))
		}
	}
	for _, d := range documents {
		if d == nil {
			continue
		}
		for _, s := range at(d, "Statement").Content {
			if at(s, "Effect").Value != "Allow" || at(s, "NotAction") != nil || at(s, "NotResource") != nil {
				t.Errorf("statement %s does more than allow actions on resources", at(s, "Sid").Value)
			}
			for _, action := range texts(at(s, "Action")) {
				if strings.Contains(action, "*") {
					t.Errorf("statement %s allows %s", at(s, "Sid").Value, action)
				}
				actions[action] = append(actions[action], texts(at(s, "Resource"))...)
			}
		}
	}
	if len(actions) == 0 {
		t.Fatal("nothing granted: has the template another form?")
	}
	return actions
}

// written reads a policy of infra/iam/ the same way.
func written(t *testing.T, name string) map[string][]string {
	t.Helper()
	b, err := os.ReadFile(dir + "iam/" + name)
	if err != nil {
		t.Fatal(err)
	}
	if !json.Valid(b) {
		t.Fatalf("%s is not JSON", name)
	}
	var document yaml.Node
	if err := yaml.Unmarshal(b, &document); err != nil { // JSON is YAML, too
		t.Fatal(err)
	}
	role := yaml.Node{Kind: yaml.MappingNode, Content: []*yaml.Node{{Kind: yaml.ScalarNode, Value: "Properties"},
		{Kind: yaml.MappingNode, Content: []*yaml.Node{{Kind: yaml.ScalarNode, Value: "PolicyDocument"}, document.Content[0]}}}}
	return granted(t, role)
}

// plain writes an ARN of the template as the written policies do.
func plain(arns []string) (out []string) {
	for _, arn := range arns {
		for from, to := range map[string]string{"${AWS::Partition}": "aws", "${AWS::Region}": "REGION", "${AWS::AccountId}": "ACCOUNT",
			"${ClusterName}": "CLUSTER", "${ServiceName}": "SERVICE"} {
			arn = strings.ReplaceAll(arn, from, to)
		}
		out = append(out, arn)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// The template's task role is infra/iam/task-role.json, action by action and resource by resource. (That this is what the
// task calls is seen by the end-to-end tests.)
func TestTaskRole(t *testing.T) {
	_, resources := template(t)
	role := granted(t, resources["TaskRole"])
	maps.Copy(role, granted(t, resources["TaskProtectionPolicy"]))
	want := written(t, "task-role.json")
	for action := range want {
		if !slices.Equal(plain(role[action]), plain(want[action])) {
			t.Errorf("%s: the template says %q, task-role.json %q", action, plain(role[action]), plain(want[action]))
		}
	}
	for action := range role {
		if want[action] == nil {
			t.Errorf("the template grants %s", action)
		}
	}
}

// What a workflow does that deploys with ecspresso, forwards with ecsta and session-manager-plugin, by their calls.
var workflow = map[string]string{
	"ecs:DescribeServices":                            "ecspresso, each command",
	"ecs:RegisterTaskDefinition":                      "ecspresso deploy",
	"ecs:CreateService":                               "ecspresso deploy, the first time",
	"ecs:UpdateService":                               "ecspresso deploy, scale",
	"iam:PassRole":                                    "RegisterTaskDefinition with these roles",
	"ecs:DescribeTaskDefinition":                      "ecspresso diff, tasks",
	"ecs:ListTasks":                                   "ecspresso tasks, ecsta list",
	"ecs:DescribeTasks":                               "ecspresso tasks, ecsta portforward",
	"ssm:StartSession":                                "ecsta portforward",
	"ecs:DiscoverPollEndpoint":                        "ecsta portforward",
	"ssm:ResumeSession":                               "session-manager-plugin, after a lost connection",
	"ssm:TerminateSession":                            "session-manager-plugin, at its end",
	"ssmmessages:OpenDataChannel":                     "session-manager-plugin",
	"application-autoscaling:DescribeScalableTargets": "ecspresso deploy, scale, status",
}

// The role of GitHub Actions can do what the workflow does, all that infra/iam/user.json lets a person do, and no more; on
// this service, with these documents.
func TestGitHubRole(t *testing.T) {
	_, resources := template(t)
	role := granted(t, resources["GitHubRole"])
	for action, why := range workflow {
		if role[action] == nil {
			t.Errorf("it lacks %s (%s)", action, why)
		}
	}
	for action := range role {
		if workflow[action] == "" {
			t.Errorf("it may call %s, which nothing needs", action)
		}
	}
	for action, arns := range written(t, "user.json") {
		for _, arn := range plain(arns) {
			if !slices.Contains(plain(role[action]), arn) {
				t.Errorf("a person may %s on %s, the workflow not: %q", action, arn, plain(role[action]))
			}
		}
	}
	anywhere := []string{"ecs:RegisterTaskDefinition", "ecs:DescribeTaskDefinition", "ecs:ListTasks", "ecs:DiscoverPollEndpoint", "application-autoscaling:DescribeScalableTargets"}
	for action, arns := range role {
		if slices.Contains(arns, "*") && !slices.Contains(anywhere, action) {
			t.Errorf("%s is allowed on everything", action)
		}
	}
	document := regexp.MustCompile(`document/AWS-StartPortForwardingSession(ToRemoteHost)?$`)
	for _, arn := range role["ssm:StartSession"] {
		if strings.Contains(arn, ":ssm:") && !document.MatchString(arn) {
			t.Errorf("it may start sessions with %s", arn)
		}
	}
	github := resources["GitHubRole"]
	trust := at(at(&github, "Properties", "AssumeRolePolicyDocument", "Statement").Content[0], "Condition", "StringEquals")
	if subject := at(trust, "token.actions.githubusercontent.com:sub"); subject == nil || subject.Value != "repo:${GitHubRepository}:${GitHubSubject}" {
		t.Error("it can be assumed by other repositories")
	}
}

// Temporary credentials are for the workgroup that was named, and for nobody when none was.
func TestGitHubRedshift(t *testing.T) {
	_, resources := template(t)
	policy := resources["GitHubRedshiftPolicy"]
	if c := at(&policy, "Condition"); c == nil || c.Value != "HasGitHubAndRedshift" {
		t.Error("it is there although nobody asked for it")
	}
	for action, arns := range granted(t, policy) {
		if !strings.HasPrefix(action, "redshift-serverless:Get") || !slices.Equal(arns, []string{"RedshiftWorkgroupArn"}) {
			t.Errorf("%s is allowed on %q", action, arns)
		}
	}
}

// explained maps the actions of the tables below a heading of infra/iam/README.md to the cell that says on what they are granted.
func explained(t *testing.T, heading string) map[string]string {
	t.Helper()
	text, err := os.ReadFile(dir + "iam/README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, found := strings.Cut(string(text), "## "+heading+"\n")
	if !found {
		t.Fatalf("infra/iam/README.md has no section %s", heading)
	}
	section, _, _ = strings.Cut(section, "\n## ")
	name := regexp.MustCompile("`([a-z-]+:[A-Z]\\w+)`")
	on := map[string]string{}
	for _, line := range strings.Split(section, "\n") {
		cells := strings.Split(line, "|")
		if len(cells) < 4 {
			continue
		}
		for _, m := range name.FindAllStringSubmatch(cells[1], -1) {
			on[m[1]] += cells[3]
		}
	}
	return on
}

// infra/iam/README.md explains each role's actions, no more and no less, and says "*" where the template does.
func TestExplained(t *testing.T) {
	_, resources := template(t)
	grantedBy := func(names ...string) map[string][]string {
		all := map[string][]string{}
		for _, name := range names {
			for action, arns := range granted(t, resources[name]) {
				all[action] = append(all[action], arns...)
			}
		}
		return all
	}
	users := explained(t, "user.json, user-fixed-relay.json")
	rest := explained(t, "The execution role, and the role for GitHub Actions")
	delete(rest, "sts:AssumeRole") // of the trust policies
	delete(rest, "sts:AssumeRoleWithWebIdentity")
	workflows := maps.Clone(users)
	maps.Copy(workflows, rest)
	for what, c := range map[string]struct {
		granted map[string][]string
		on      map[string]string
	}{
		"the task role":             {grantedBy("TaskRole", "TaskProtectionPolicy"), explained(t, "task-role.json")},
		"user.json":                 {written(t, "user.json"), users},
		"user-fixed-relay.json":     {written(t, "user-fixed-relay.json"), users},
		"execution role, workflows": {grantedBy("ExecutionRole", "GitHubRole", "GitHubRedshiftPolicy"), workflows},
	} {
		for action, arns := range c.granted {
			if on, ok := c.on[action]; !ok {
				t.Errorf("%s: %s is not explained", what, action)
			} else if slices.Contains(arns, "*") != strings.Contains(on, "`*`") {
				t.Errorf("%s: %s is granted on %q, the page says %q", what, action, arns, on)
			}
		}
		for action := range c.on {
			if c.granted[action] == nil {
				t.Errorf("%s: %s is explained and not granted", what, action)
			}
		}
	}
}

// The task's security group has no way in; that of the endpoints only from the task.
func TestSecurityGroups(t *testing.T) {
	_, resources := template(t)
	task, endpoints := resources["SecurityGroup"], resources["EndpointSecurityGroup"]
	if at(&task, "Properties", "GroupDescription") == nil || at(&task, "Properties", "SecurityGroupIngress") != nil {
		t.Error("the task can be connected to")
	}
	rules := at(&endpoints, "Properties", "SecurityGroupIngress")
	if len(rules.Content) != 1 || at(rules.Content[0], "SourceSecurityGroupId").Value != "SecurityGroup" || at(rules.Content[0], "ToPort").Value != "443" {
		t.Error("the endpoints can be connected to by others than the task")
	}
	for name, n := range resources {
		if at(&n, "Type").Value == "AWS::EC2::SecurityGroupIngress" {
			t.Errorf("%s opens a way in", name)
		}
	}
}

// CloudFormation takes no aliases, although every YAML parser, cfn-lint's too, does.
func TestNoAliases(t *testing.T) {
	text, _ := template(t)
	if found := regexp.MustCompile(`(?m)[:-] [&*][a-z]\w*`).FindAllString(text, -1); len(found) > 0 {
		t.Errorf("the template has %q", found)
	}
}

// The outputs are described by the names that .env.example has for them.
func TestOutputs(t *testing.T) {
	text, _ := template(t)
	environment, err := os.ReadFile("../../.env.example")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"FUMIDAI_TASK_ROLE_ARN", "FUMIDAI_EXECUTION_ROLE_ARN", "FUMIDAI_LOG_GROUP", "FUMIDAI_SECURITY_GROUP"} {
		if !strings.Contains(text, "Description: "+name+"\n") || !strings.Contains(string(environment), "\n"+name+"=\n") {
			t.Errorf("%s is not in both", name)
		}
	}
}
