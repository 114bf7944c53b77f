package ecs

import (
	"encoding/json"
	"fmt"
	"slices"
	"sort"
	"strconv"
	"strings"

	"fumidai/tests/emulator/edge"

	sdk "github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
)

func clientError(message string) error { return &edge.Error{Code: "ClientException", Message: message} }

func (e *ECS) registerTaskDefinition(c *edge.Call, in *sdk.RegisterTaskDefinitionInput) (*sdk.RegisterTaskDefinitionOutput, error) {
	if value(in.Family) == "" {
		return nil, clientError("Family should not be null or empty.")
	}
	if len(in.ContainerDefinitions) == 0 {
		return nil, clientError("Container list cannot be empty.")
	}
	for i := range in.ContainerDefinitions {
		if err := completeContainer(&in.ContainerDefinitions[i]); err != nil {
			return nil, err
		}
	}
	revision := len(e.definitions[*in.Family]) + 1
	d := &types.TaskDefinition{
		Family: in.Family, Revision: int32(revision), Status: types.TaskDefinitionStatusActive,
		TaskDefinitionArn:    ptr(e.arn("task-definition", fmt.Sprintf("%s:%d", *in.Family, revision))),
		ContainerDefinitions: in.ContainerDefinitions, Cpu: in.Cpu, Memory: in.Memory,
		TaskRoleArn: in.TaskRoleArn, ExecutionRoleArn: in.ExecutionRoleArn, NetworkMode: in.NetworkMode,
		RequiresCompatibilities: in.RequiresCompatibilities, RuntimePlatform: in.RuntimePlatform,
		EphemeralStorage: in.EphemeralStorage, IpcMode: in.IpcMode, PidMode: in.PidMode, ProxyConfiguration: in.ProxyConfiguration,
		Volumes: nonNil(in.Volumes), PlacementConstraints: nonNil(in.PlacementConstraints),
		Compatibilities: []types.Compatibility{types.CompatibilityEc2, types.CompatibilityFargate},
		RegisteredAt:    now(), RegisteredBy: ptr(c.Principal.ARN),
		RequiresAttributes: []types.Attribute{},
	}
	e.definitions[*in.Family] = append(e.definitions[*in.Family], d)
	e.tags[*d.TaskDefinitionArn] = in.Tags
	c.Resource = *d.TaskDefinitionArn
	return &sdk.RegisterTaskDefinitionOutput{TaskDefinition: d, Tags: nonNil(in.Tags)}, nil
}

// completeContainer fills in what ECS echoes although it was not given, and refuses what it would refuse.
func completeContainer(d *types.ContainerDefinition) error {
	if value(d.Name) == "" || value(d.Image) == "" {
		return clientError("Container.name and Container.image should not be null or empty.")
	}
	if t := value(d.StopTimeout); t > 120 {
		return clientError("stopTimeout can be at most 120 seconds on Fargate.")
	}
	if d.Essential == nil {
		d.Essential = ptr(true)
	}
	if err := completeHealthCheck(d.HealthCheck); err != nil {
		return err
	}
	d.Environment, d.MountPoints, d.VolumesFrom = nonNil(d.Environment), nonNil(d.MountPoints), nonNil(d.VolumesFrom)
	d.PortMappings, d.SystemControls = nonNil(d.PortMappings), nonNil(d.SystemControls)
	for i, m := range d.PortMappings {
		if m.HostPort == nil {
			d.PortMappings[i].HostPort = m.ContainerPort
		}
		if m.Protocol == "" {
			d.PortMappings[i].Protocol = types.TransportProtocolTcp
		}
	}
	return nil
}

func nonNil[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

// definition finds a task definition by ARN, family:revision, or family (its newest active revision).
func (e *ECS) definition(id string) (*types.TaskDefinition, error) {
	family, revisionText, exact := strings.Cut(last(id), ":")
	revisions := e.definitions[family]
	if exact {
		revision, err := strconv.Atoi(revisionText)
		if err == nil && revision >= 1 && revision <= len(revisions) && revisions[revision-1] != nil {
			return revisions[revision-1], nil
		}
	} else {
		for _, d := range slices.Backward(revisions) {
			if d != nil && d.Status == types.TaskDefinitionStatusActive {
				return d, nil
			}
		}
	}
	return nil, clientError("Unable to describe task definition.")
}

func (e *ECS) describeTaskDefinition(c *edge.Call, in *sdk.DescribeTaskDefinitionInput) (*sdk.DescribeTaskDefinitionOutput, error) {
	d, err := e.definition(value(in.TaskDefinition))
	if err != nil {
		return nil, err
	}
	c.Resource = *d.TaskDefinitionArn
	out := &sdk.DescribeTaskDefinitionOutput{TaskDefinition: d}
	if slices.Contains(in.Include, types.TaskDefinitionFieldTags) {
		out.Tags = nonNil(e.tags[*d.TaskDefinitionArn])
	}
	return out, nil
}

func (e *ECS) listTaskDefinitions(_ *edge.Call, in *sdk.ListTaskDefinitionsInput) (*sdk.ListTaskDefinitionsOutput, error) {
	status := in.Status
	if status == "" {
		status = types.TaskDefinitionStatusActive
	}
	var found []*types.TaskDefinition
	for family, revisions := range e.definitions {
		if p := value(in.FamilyPrefix); p != "" && p != family { // a "prefix" that ECS takes for the whole name
			continue
		}
		for _, d := range revisions {
			if d != nil && d.Status == status {
				found = append(found, d)
			}
		}
	}
	sort.Slice(found, func(i, j int) bool {
		if *found[i].Family != *found[j].Family {
			return *found[i].Family < *found[j].Family
		}
		return found[i].Revision < found[j].Revision
	})
	if in.Sort == types.SortOrderDesc {
		slices.Reverse(found)
	}
	arns := []string{}
	for _, d := range found {
		arns = append(arns, *d.TaskDefinitionArn)
	}
	if n := int(value(in.MaxResults)); n > 0 && n < len(arns) {
		arns = arns[:n]
	}
	return &sdk.ListTaskDefinitionsOutput{TaskDefinitionArns: arns}, nil
}

func (e *ECS) deregisterTaskDefinition(c *edge.Call, in *sdk.DeregisterTaskDefinitionInput) (*sdk.DeregisterTaskDefinitionOutput, error) {
	d, err := e.definition(value(in.TaskDefinition))
	if err != nil {
		return nil, err
	}
	d.Status, d.DeregisteredAt = types.TaskDefinitionStatusInactive, now()
	c.Resource = *d.TaskDefinitionArn
	return &sdk.DeregisterTaskDefinitionOutput{TaskDefinition: d}, nil
}

func (e *ECS) deleteTaskDefinitions(_ *edge.Call, in *sdk.DeleteTaskDefinitionsInput) (*sdk.DeleteTaskDefinitionsOutput, error) {
	out := &sdk.DeleteTaskDefinitionsOutput{TaskDefinitions: []types.TaskDefinition{}, Failures: []types.Failure{}}
	for _, id := range in.TaskDefinitions {
		d, err := e.definition(id)
		switch {
		case err != nil:
			out.Failures = append(out.Failures, types.Failure{Arn: &id, Reason: ptr("MISSING")})
		case d.Status == types.TaskDefinitionStatusActive:
			out.Failures = append(out.Failures, types.Failure{Arn: &id, Reason: ptr("The specified task definition is still in ACTIVE status. Please deregister the target and try again.")})
		default:
			d.Status, d.DeleteRequestedAt = types.TaskDefinitionStatusDeleteInProgress, now()
			out.TaskDefinitions = append(out.TaskDefinitions, *d)
		}
	}
	return out, nil
}

// clone copies a value of the SDK's types deeply, so that an answer does not change with the state while it is written.
func clone[T any](v T) T {
	var copied T
	b, err := json.Marshal(v)
	if err == nil {
		err = json.Unmarshal(b, &copied)
	}
	if err != nil {
		panic(err) // the SDK's structs of plain fields always survive it
	}
	return copied
}
