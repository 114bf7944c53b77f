package ecs

import (
	"encoding/json"
	"strings"

	"fumidai/tests/emulator/edge"
	"fumidai/tests/emulator/iam"
)

// needs are the permissions that a call of ECS takes, by its own words: AWS's service authorization reference has the resource
// types of each action.
func (e *ECS) needs(c *edge.Call) []iam.Request {
	var in struct {
		Cluster, Service, ServiceName, Task, ResourceArn string
		Services, Tasks, Clusters                        []string
		TaskDefinition, TaskRoleArn, ExecutionRoleArn    string
	}
	_ = json.Unmarshal(c.Body, &in) // a call that can't be read is refused by the operation
	cluster := "default"
	if in.Cluster != "" {
		cluster = last(in.Cluster)
	}
	action := "ecs:" + c.Action
	on := func(kind string, ids ...string) (all []iam.Request) {
		for _, id := range ids {
			arn := e.arn(kind, cluster, last(id))
			if kind == "cluster" {
				arn = e.arn(kind, last(id))
			}
			all = append(all, iam.Request{Action: action, Resource: arn, Context: e.context(arn, cluster)})
		}
		return all
	}
	switch c.Action {
	case "UpdateService", "DeleteService":
		return on("service", in.Service)
	case "CreateService":
		return on("service", in.ServiceName)
	case "DescribeServices":
		return on("service", in.Services...)
	case "StopTask", "ExecuteCommand":
		return on("task", in.Task)
	case "DescribeTasks", "GetTaskProtection", "UpdateTaskProtection":
		return on("task", in.Tasks...)
	case "DescribeClusters":
		return on("cluster", in.Clusters...)
	case "ListTagsForResource", "TagResource", "UntagResource":
		return []iam.Request{{Action: action, Resource: in.ResourceArn}}
	case "ListTasks", "ListServices":
		return []iam.Request{{Action: action, Resource: "*", Context: e.context("", cluster)}}
	case "RunTask":
		return []iam.Request{{Action: action, Resource: in.TaskDefinition, Context: e.context("", cluster)}}
	case "RegisterTaskDefinition":
		all := []iam.Request{{Action: action, Resource: "*"}}
		for _, role := range []string{in.TaskRoleArn, in.ExecutionRoleArn} {
			if role != "" {
				all = append(all, iam.Request{Action: "iam:PassRole", Resource: role, Context: map[string][]string{"iam:passedtoservice": {"ecs-tasks.amazonaws.com"}}})
			}
		}
		return all
	}
	return []iam.Request{{Action: action, Resource: "*"}}
}

// context are the condition keys of a resource.
func (e *ECS) context(arn, cluster string) map[string][]string {
	keys := map[string][]string{"ecs:cluster": {e.arn("cluster", cluster)}}
	e.mu.Lock()
	defer e.mu.Unlock()
	tags := e.tags[arn]
	if t := e.tasks[arn]; t != nil {
		tags = t.state.Tags
	}
	for _, tag := range tags {
		keys["aws:resourcetag/"+strings.ToLower(value(tag.Key))] = []string{value(tag.Value)}
	}
	return keys
}

// SessionTarget is the task behind the target of a session, "ecs:CLUSTER_TASK_RUNTIME", as IAM knows it.
func (e *ECS) SessionTarget(target string) (arn string, context map[string][]string) {
	parts := strings.Split(strings.TrimPrefix(target, "ecs:"), "_")
	if len(parts) < 3 {
		return target, nil
	}
	cluster, task := strings.Join(parts[:len(parts)-2], "_"), parts[len(parts)-2]
	arn = e.arn("task", cluster, task)
	return arn, e.context(arn, cluster)
}
