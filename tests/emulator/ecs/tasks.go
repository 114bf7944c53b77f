package ecs

import (
	"slices"
	"time"

	"fumidai/tests/emulator/edge"

	sdk "github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
)

func (e *ECS) runTask(c *edge.Call, in *sdk.RunTaskInput) (*sdk.RunTaskOutput, error) {
	cluster, err := e.cluster(in.Cluster)
	if err != nil {
		return nil, err
	}
	d, err := e.definition(value(in.TaskDefinition))
	if err != nil || d.Status != types.TaskDefinitionStatusActive {
		return nil, clientError("TaskDefinition not found.")
	}
	count := 1
	if in.Count != nil {
		count = int(*in.Count)
	}
	if count < 1 || count > 10 {
		return nil, edge.Invalid("count must be between 1 and 10.")
	}
	c.Resource = *d.TaskDefinitionArn
	out := &sdk.RunTaskOutput{Tasks: []types.Task{}, Failures: []types.Failure{}}
	for range count {
		t := e.newTask(cluster, d, in.Overrides)
		if in.Group != nil {
			t.state.Group = in.Group
		}
		t.state.StartedBy, t.state.Tags, t.state.EnableExecuteCommand = in.StartedBy, nonNil(in.Tags), in.EnableExecuteCommand
		e.launch(t)
		out.Tasks = append(out.Tasks, clone(t.state))
	}
	return out, nil
}

// task finds a task by id or ARN.
func (e *ECS) task(cluster *string, id string) (*Task, error) {
	name, err := e.cluster(cluster)
	if err != nil {
		return nil, err
	}
	t := e.tasks[e.arn("task", name, last(id))]
	if t == nil {
		return nil, edge.Invalid("The referenced task was not found.")
	}
	return t, nil
}

func (e *ECS) stopTask(c *edge.Call, in *sdk.StopTaskInput) (*sdk.StopTaskOutput, error) {
	t, err := e.task(in.Cluster, value(in.Task))
	if err != nil {
		return nil, err
	}
	c.Resource = *t.state.TaskArn
	t.stop(types.TaskStopCodeUserInitiated, *or(in.Reason, "Task stopped by user"))
	return &sdk.StopTaskOutput{Task: ptr(clone(t.state))}, nil
}

func (e *ECS) describeTasks(c *edge.Call, in *sdk.DescribeTasksInput) (*sdk.DescribeTasksOutput, error) {
	cluster, err := e.cluster(in.Cluster)
	if err != nil {
		return nil, err
	}
	if len(in.Tasks) == 0 {
		return nil, edge.Invalid("Tasks cannot be empty.")
	}
	out := &sdk.DescribeTasksOutput{Tasks: []types.Task{}, Failures: []types.Failure{}}
	for _, id := range in.Tasks {
		arn := e.arn("task", cluster, last(id))
		t := e.tasks[arn]
		if t == nil {
			out.Failures = append(out.Failures, types.Failure{Arn: &arn, Reason: ptr("MISSING")})
			continue
		}
		c.Resource = arn
		state := clone(t.state)
		if !slices.Contains(in.Include, types.TaskFieldTags) {
			state.Tags = []types.Tag{}
		}
		out.Tasks = append(out.Tasks, state)
	}
	return out, nil
}

func (e *ECS) listTasks(_ *edge.Call, in *sdk.ListTasksInput) (*sdk.ListTasksOutput, error) {
	cluster, err := e.cluster(in.Cluster)
	if err != nil {
		return nil, err
	}
	if in.ServiceName != nil && e.services[e.arn("service", cluster, last(*in.ServiceName))] == nil {
		return nil, &edge.Error{Code: "ServiceNotFoundException", Message: "Service not found."}
	}
	desired := string(in.DesiredStatus)
	if desired == "" {
		desired = statusRunning
	}
	var found []*Task
	for _, t := range e.tasks {
		if *t.state.ClusterArn == e.arn("cluster", cluster) && *t.state.DesiredStatus == desired &&
			(in.ServiceName == nil || t.service == e.arn("service", cluster, last(*in.ServiceName))) &&
			(in.Family == nil || *t.definition.Family == *in.Family) &&
			(in.StartedBy == nil || value(t.state.StartedBy) == *in.StartedBy) {
			found = append(found, t)
		}
	}
	sortTasks(found)
	out := &sdk.ListTasksOutput{TaskArns: []string{}}
	for _, t := range found {
		out.TaskArns = append(out.TaskArns, *t.state.TaskArn)
	}
	return out, nil
}

func (e *ECS) getTaskProtection(_ *edge.Call, in *sdk.GetTaskProtectionInput) (*sdk.GetTaskProtectionOutput, error) {
	out := &sdk.GetTaskProtectionOutput{ProtectedTasks: []types.ProtectedTask{}, Failures: []types.Failure{}}
	for _, id := range in.Tasks {
		t, err := e.task(in.Cluster, id)
		if err != nil {
			out.Failures = append(out.Failures, types.Failure{Arn: &id, Reason: ptr("MISSING")})
			continue
		}
		out.ProtectedTasks = append(out.ProtectedTasks, t.protection())
	}
	return out, nil
}

func (e *ECS) updateTaskProtection(_ *edge.Call, in *sdk.UpdateTaskProtectionInput) (*sdk.UpdateTaskProtectionOutput, error) {
	out := &sdk.UpdateTaskProtectionOutput{ProtectedTasks: []types.ProtectedTask{}, Failures: []types.Failure{}}
	for _, id := range in.Tasks {
		t, err := e.task(in.Cluster, id)
		switch {
		case err != nil:
			out.Failures = append(out.Failures, types.Failure{Arn: &id, Reason: ptr("MISSING")})
		case t.service == "":
			out.Failures = append(out.Failures, types.Failure{Arn: t.state.TaskArn, Reason: ptr("TASK_NOT_VALID")})
		default:
			t.protect(in.ProtectionEnabled, value(in.ExpiresInMinutes))
			out.ProtectedTasks = append(out.ProtectedTasks, t.protection())
		}
	}
	return out, nil
}

// protect keeps the scheduler from stopping the task, for two hours unless told otherwise. The lock is held.
func (t *Task) protect(enabled bool, minutes int32) {
	if minutes == 0 {
		minutes = 120
	}
	t.protectedUntil = time.Time{}
	if enabled {
		t.protectedUntil = time.Now().Add(time.Duration(minutes) * time.Minute)
	}
	t.ecs.notify()
}

func (t *Task) protection() types.ProtectedTask {
	p := types.ProtectedTask{TaskArn: t.state.TaskArn, ProtectionEnabled: t.protectedUntil.After(time.Now())}
	if p.ProtectionEnabled {
		p.ExpirationDate = &t.protectedUntil
	}
	return p
}

func (e *ECS) executeCommand(c *edge.Call, in *sdk.ExecuteCommandInput) (*sdk.ExecuteCommandOutput, error) {
	t, err := e.task(in.Cluster, value(in.Task))
	if err != nil {
		return nil, err
	}
	c.Resource = *t.state.TaskArn
	refused := edge.Invalid("The execute command failed because execute command was not enabled when the task was run or the execute command agent isn’t running. " +
		"Wait and try again or run a new task with execute command enabled and try again.")
	if !t.state.EnableExecuteCommand || *t.state.LastStatus != statusRunning || e.Exec == nil {
		return nil, refused
	}
	container := t.state.Containers[0]
	for _, candidate := range t.state.Containers {
		if value(in.Container) == *candidate.Name {
			container = candidate
		}
	}
	cluster := last(*t.state.ClusterArn)
	session, err := e.Exec(c, "ecs:"+cluster+"_"+t.id+"_"+*container.RuntimeId, in)
	if err != nil {
		return nil, err
	}
	return &sdk.ExecuteCommandOutput{ClusterArn: t.state.ClusterArn, ContainerArn: container.ContainerArn, ContainerName: container.Name,
		Interactive: in.Interactive, Session: session, TaskArn: t.state.TaskArn}, nil
}
