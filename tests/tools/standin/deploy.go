package main

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"time"

	"fumidai/tests/tools/definitions"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
)

// written is a service definition: what a service is, but with no desired count when none is given.
type written struct {
	types.Service
	DesiredCount *int32
}

func (a *app) read(file string, into any) error {
	return definitions.Decode(filepath.Join(a.dir, file), os.LookupEnv, into)
}

// deploy registers what the files say and creates the service, or brings it to it.
func (a *app) deploy(ctx context.Context) error {
	old, err := a.find(ctx)
	if err != nil {
		return err
	}
	if old != nil {
		if err := a.show(ctx, old, 0); err != nil {
			return err
		}
	}
	var s written
	if err := a.read(a.ServiceDefinition, &s); err != nil {
		return err
	}
	if a.tasks >= 0 {
		s.DesiredCount = aws.Int32(int32(a.tasks))
	}
	var task ecs.RegisterTaskDefinitionInput
	if err := a.read(a.TaskDefinition, &task); err != nil {
		return err
	}
	registered, err := a.ecs.RegisterTaskDefinition(ctx, &task)
	if err != nil {
		return err
	}
	definition := *registered.TaskDefinition.TaskDefinitionArn
	a.log("registered %s", last(definition))
	if old == nil {
		return a.create(ctx, &s, definition)
	}
	if err := a.updateAttributes(ctx, old, &s, definition); err != nil {
		return err
	}
	return a.update(ctx, definition, s.DesiredCount)
}

func (a *app) create(ctx context.Context, s *written, definition string) error {
	count := s.DesiredCount
	if count == nil && s.SchedulingStrategy == types.SchedulingStrategyReplica {
		count = aws.Int32(0)
	}
	if _, err := a.ecs.CreateService(ctx, &ecs.CreateServiceInput{
		Cluster: &a.Cluster, ServiceName: &a.Service, TaskDefinition: &definition, DesiredCount: count,
		CapacityProviderStrategy: s.CapacityProviderStrategy, DeploymentConfiguration: s.DeploymentConfiguration,
		DeploymentController: s.DeploymentController, EnableECSManagedTags: s.EnableECSManagedTags, EnableExecuteCommand: s.EnableExecuteCommand,
		HealthCheckGracePeriodSeconds: s.HealthCheckGracePeriodSeconds, LaunchType: s.LaunchType, LoadBalancers: s.LoadBalancers,
		NetworkConfiguration: s.NetworkConfiguration, PlacementConstraints: s.PlacementConstraints, PlacementStrategy: s.PlacementStrategy,
		PlatformVersion: s.PlatformVersion, PropagateTags: s.PropagateTags, SchedulingStrategy: s.SchedulingStrategy,
		ServiceRegistries: s.ServiceRegistries, Tags: s.Tags,
	}); err != nil {
		return err
	}
	a.log("the service is created")
	time.Sleep(settle)
	made, err := a.find(ctx)
	if err != nil {
		return err
	}
	if made == nil {
		return errors.New("the service that was created is not there")
	}
	return a.stable(ctx)
}

// attributes are what an update can change of a service, beside its tasks.
func attributes(s *types.Service) *ecs.UpdateServiceInput {
	return &ecs.UpdateServiceInput{
		CapacityProviderStrategy: s.CapacityProviderStrategy, DeploymentConfiguration: s.DeploymentConfiguration,
		EnableECSManagedTags: &s.EnableECSManagedTags, EnableExecuteCommand: &s.EnableExecuteCommand,
		HealthCheckGracePeriodSeconds: s.HealthCheckGracePeriodSeconds, LoadBalancers: s.LoadBalancers, NetworkConfiguration: s.NetworkConfiguration,
		PlacementConstraints: s.PlacementConstraints, PlacementStrategy: s.PlacementStrategy, PlatformVersion: s.PlatformVersion,
		PropagateTags: s.PropagateTags, ServiceRegistries: s.ServiceRegistries,
	}
}

// updateAttributes brings the service's attributes to what is written, if they differ.
func (a *app) updateAttributes(ctx context.Context, old *types.Service, s *written, definition string) error {
	in := attributes(&s.Service)
	in.DesiredCount = s.DesiredCount
	before := attributes(old)
	if s.DesiredCount != nil {
		before.DesiredCount = &old.DesiredCount
	}
	if reflect.DeepEqual(plain(in), plain(before)) {
		a.log("the service's attributes do not change")
		return nil
	}
	in.Cluster, in.Service, in.TaskDefinition = &a.Cluster, &a.Service, &definition
	if _, err := a.ecs.UpdateService(ctx, in); err != nil {
		return err
	}
	time.Sleep(settle)
	return nil
}

// plain is a request as JSON without what is empty, for comparison.
func plain(in *ecs.UpdateServiceInput) any {
	text, _ := json.Marshal(in)
	var value any
	_ = json.Unmarshal(text, &value)
	return squeeze(value)
}

func squeeze(value any) any {
	switch v := value.(type) {
	case map[string]any:
		for name, inner := range v {
			if inner = squeeze(inner); inner == nil {
				delete(v, name)
			} else {
				v[name] = inner
			}
		}
	case []any:
		if len(v) == 0 {
			return nil
		}
		for i := range v {
			v[i] = squeeze(v[i])
		}
	}
	return value
}
