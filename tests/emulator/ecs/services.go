package ecs

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"fumidai/tests/emulator/edge"

	sdk "github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
)

// service is a service's state and what the scheduler needs to know beyond it.
type service struct {
	state     types.Service
	steady    bool
	notBefore time.Time // the scheduler starts nothing until then
	short     int       // tasks in a row that did not live long
}

const maxEvents = 100 // as ECS keeps

func (s *service) event(format string, args ...any) {
	event := types.ServiceEvent{Id: ptr(uuid()), CreatedAt: now(),
		Message: ptr(fmt.Sprintf("(service %s) ", *s.state.ServiceName) + fmt.Sprintf(format, args...))}
	s.state.Events = slices.Insert(s.state.Events, 0, event)
	if len(s.state.Events) > maxEvents {
		s.state.Events = s.state.Events[:maxEvents]
	}
}

func uuid() string {
	id := hexID(16)
	return strings.Join([]string{id[:8], id[8:12], id[12:16], id[16:20], id[20:]}, "-")
}

func (e *ECS) createService(c *edge.Call, in *sdk.CreateServiceInput) (*sdk.CreateServiceOutput, error) {
	cluster, err := e.cluster(in.Cluster)
	if err != nil {
		return nil, err
	}
	if value(in.ServiceName) == "" {
		return nil, edge.Invalid("Service name cannot be empty.")
	}
	d, err := e.definition(value(in.TaskDefinition))
	if err != nil || d.Status != types.TaskDefinitionStatusActive {
		return nil, clientError("TaskDefinition not found.")
	}
	daemon := in.SchedulingStrategy == types.SchedulingStrategyDaemon
	if daemon && in.LaunchType != types.LaunchTypeEc2 {
		return nil, edge.Invalid("The DAEMON scheduling strategy is not supported with the FARGATE launch type.")
	}
	arn := e.arn("service", cluster, *in.ServiceName)
	if old := e.services[arn]; old != nil && *old.state.Status != "INACTIVE" {
		return nil, edge.Invalid("Creation of service was not idempotent.")
	}
	c.Resource = arn
	s := &service{state: types.Service{
		ServiceName: in.ServiceName, ServiceArn: &arn, ClusterArn: ptr(e.arn("cluster", cluster)), Status: ptr("ACTIVE"),
		DesiredCount: value(in.DesiredCount), TaskDefinition: d.TaskDefinitionArn, LaunchType: in.LaunchType,
		CapacityProviderStrategy: in.CapacityProviderStrategy, PlatformVersion: or(in.PlatformVersion, "LATEST"), PlatformFamily: ptr("Linux"),
		SchedulingStrategy: types.SchedulingStrategyReplica, NetworkConfiguration: in.NetworkConfiguration,
		DeploymentConfiguration: completeDeployment(in.DeploymentConfiguration), DeploymentController: in.DeploymentController,
		EnableECSManagedTags: in.EnableECSManagedTags, EnableExecuteCommand: in.EnableExecuteCommand, PropagateTags: in.PropagateTags,
		HealthCheckGracePeriodSeconds: in.HealthCheckGracePeriodSeconds, LoadBalancers: nonNil(in.LoadBalancers),
		ServiceRegistries: nonNil(in.ServiceRegistries), PlacementConstraints: nonNil(in.PlacementConstraints), PlacementStrategy: nonNil(in.PlacementStrategy),
		AvailabilityZoneRebalancing: in.AvailabilityZoneRebalancing,
		CreatedAt:                   now(), CreatedBy: ptr(c.Principal.ARN), Events: []types.ServiceEvent{},
	}}
	if daemon { // of one instance
		s.state.SchedulingStrategy, s.state.DesiredCount = types.SchedulingStrategyDaemon, 1
	}
	if s.state.LaunchType == "" && len(in.CapacityProviderStrategy) == 0 {
		s.state.LaunchType = types.LaunchTypeFargate
	}
	if s.state.PropagateTags == "" {
		s.state.PropagateTags = types.PropagateTagsNone
	}
	if s.state.DeploymentController == nil {
		s.state.DeploymentController = &types.DeploymentController{Type: types.DeploymentControllerTypeEcs}
	}
	e.services[arn] = s
	e.tags[arn] = in.Tags
	s.deploy()
	e.notify()
	return &sdk.CreateServiceOutput{Service: e.serviceState(s, true)}, nil
}

func or(p *string, otherwise string) *string {
	if value(p) == "" {
		return &otherwise
	}
	return p
}

func completeDeployment(c *types.DeploymentConfiguration) *types.DeploymentConfiguration {
	if c == nil {
		c = &types.DeploymentConfiguration{}
	}
	if c.MinimumHealthyPercent == nil {
		c.MinimumHealthyPercent = ptr(int32(100))
	}
	if c.MaximumPercent == nil {
		c.MaximumPercent = ptr(int32(200))
	}
	if c.DeploymentCircuitBreaker == nil {
		c.DeploymentCircuitBreaker = &types.DeploymentCircuitBreaker{}
	}
	return c
}

// deploy makes what the service now says its primary deployment; the one before it drains.
func (s *service) deploy() {
	for i := range s.state.Deployments {
		s.state.Deployments[i].Status = ptr("ACTIVE")
		s.state.Deployments[i].DesiredCount = 0
	}
	s.state.Deployments = slices.Insert(s.state.Deployments, 0, types.Deployment{
		Id: ptr("ecs-svc/" + decimalID(19)), Status: ptr("PRIMARY"), TaskDefinition: s.state.TaskDefinition,
		DesiredCount: s.state.DesiredCount, CreatedAt: now(), UpdatedAt: now(),
		LaunchType: s.state.LaunchType, CapacityProviderStrategy: s.state.CapacityProviderStrategy,
		PlatformVersion: s.state.PlatformVersion, PlatformFamily: s.state.PlatformFamily,
		NetworkConfiguration: s.state.NetworkConfiguration,
		RolloutState:         types.DeploymentRolloutStateInProgress,
	})
	primary := &s.state.Deployments[0]
	primary.RolloutStateReason = ptr(fmt.Sprintf("ECS deployment %s in progress.", *primary.Id))
	s.steady, s.short, s.notBefore = false, 0, time.Time{}
}

// service finds an active service of a cluster, by name or ARN.
func (e *ECS) service(cluster, id *string) (*service, error) {
	name, err := e.cluster(cluster)
	if err != nil {
		return nil, err
	}
	s := e.services[e.arn("service", name, last(value(id)))]
	if s == nil {
		return nil, &edge.Error{Code: "ServiceNotFoundException", Message: "Service not found."}
	}
	if *s.state.Status != "ACTIVE" {
		return nil, &edge.Error{Code: "ServiceNotActiveException", Message: "Service was not ACTIVE."}
	}
	return s, nil
}

func (e *ECS) updateService(c *edge.Call, in *sdk.UpdateServiceInput) (*sdk.UpdateServiceOutput, error) {
	s, err := e.service(in.Cluster, in.Service)
	if err != nil {
		return nil, err
	}
	c.Resource = *s.state.ServiceArn
	if in.DesiredCount != nil && s.state.SchedulingStrategy == types.SchedulingStrategyDaemon {
		return nil, edge.Invalid("The daemon scheduling strategy does not support a desired count for services. Remove the desired count value and try again.")
	}
	if n := value(in.DesiredCount); n < 0 {
		return nil, edge.Invalid("Desired count must be non-negative.")
	}
	deploy := in.ForceNewDeployment
	if in.TaskDefinition != nil {
		d, err := e.definition(*in.TaskDefinition)
		if err != nil || d.Status != types.TaskDefinitionStatusActive {
			return nil, clientError("TaskDefinition not found.")
		}
		deploy = deploy || *d.TaskDefinitionArn != *s.state.TaskDefinition
		s.state.TaskDefinition = d.TaskDefinitionArn
	}
	s.change(in, &deploy)
	if deploy {
		s.deploy()
	}
	s.state.Deployments[0].UpdatedAt = now() // taken to be so for updates that change nothing, too; not seen on AWS
	if in.DesiredCount != nil && *in.DesiredCount != s.state.DesiredCount {
		s.state.DesiredCount = *in.DesiredCount
		s.state.Deployments[0].DesiredCount = *in.DesiredCount
		s.steady, s.short, s.notBefore = false, 0, time.Time{}
	}
	e.notify()
	return &sdk.UpdateServiceOutput{Service: e.serviceState(s, true)}, nil
}

// change takes over what else an update gives. What changes how tasks run makes a new deployment.
func (s *service) change(in *sdk.UpdateServiceInput, deploy *bool) {
	if in.DeploymentConfiguration != nil {
		s.state.DeploymentConfiguration = completeDeployment(in.DeploymentConfiguration)
	}
	if in.NetworkConfiguration != nil {
		*deploy = *deploy || !same(in.NetworkConfiguration, s.state.NetworkConfiguration)
		s.state.NetworkConfiguration = in.NetworkConfiguration
	}
	if in.PlatformVersion != nil {
		*deploy = *deploy || *in.PlatformVersion != value(s.state.PlatformVersion)
		s.state.PlatformVersion = in.PlatformVersion
	}
	if in.CapacityProviderStrategy != nil {
		s.state.CapacityProviderStrategy = in.CapacityProviderStrategy
	}
	if in.EnableExecuteCommand != nil { // for tasks started from now on
		s.state.EnableExecuteCommand = *in.EnableExecuteCommand
	}
	if in.EnableECSManagedTags != nil {
		s.state.EnableECSManagedTags = *in.EnableECSManagedTags
	}
	if in.PropagateTags != "" {
		s.state.PropagateTags = in.PropagateTags
	}
	if in.HealthCheckGracePeriodSeconds != nil {
		s.state.HealthCheckGracePeriodSeconds = in.HealthCheckGracePeriodSeconds
	}
	if in.AvailabilityZoneRebalancing != "" {
		s.state.AvailabilityZoneRebalancing = in.AvailabilityZoneRebalancing
	}
	if in.LoadBalancers != nil {
		s.state.LoadBalancers = in.LoadBalancers
	}
	if in.ServiceRegistries != nil {
		s.state.ServiceRegistries = in.ServiceRegistries
	}
}

func same(a, b any) bool { return fmt.Sprint(toJSON(a)) == fmt.Sprint(toJSON(b)) }

func (e *ECS) describeServices(_ *edge.Call, in *sdk.DescribeServicesInput) (*sdk.DescribeServicesOutput, error) {
	cluster, err := e.cluster(in.Cluster)
	if err != nil {
		return nil, err
	}
	if len(in.Services) == 0 {
		return nil, edge.Invalid("Services cannot be empty.")
	}
	out := &sdk.DescribeServicesOutput{Services: []types.Service{}, Failures: []types.Failure{}}
	for _, id := range in.Services {
		arn := e.arn("service", cluster, last(id))
		if s := e.services[arn]; s != nil {
			out.Services = append(out.Services, *e.serviceState(s, slices.Contains(in.Include, types.ServiceFieldTags)))
		} else {
			out.Failures = append(out.Failures, types.Failure{Arn: &arn, Reason: ptr("MISSING")})
		}
	}
	return out, nil
}

// serviceState is what DescribeServices says, counted now.
func (e *ECS) serviceState(s *service, tags bool) *types.Service {
	s.state.RunningCount, s.state.PendingCount = 0, 0
	for i := range s.state.Deployments {
		d := &s.state.Deployments[i]
		d.RunningCount, d.PendingCount = 0, 0
		for _, t := range e.tasksOf(*s.state.ServiceArn, *d.Id) {
			switch *t.state.LastStatus {
			case statusRunning:
				d.RunningCount++
			case statusProvisioning, statusPending:
				d.PendingCount++
			}
		}
		s.state.RunningCount += d.RunningCount
		s.state.PendingCount += d.PendingCount
	}
	state := clone(s.state)
	if tags {
		state.Tags = nonNil(e.tags[*s.state.ServiceArn])
	}
	return &state
}

func (e *ECS) deleteService(c *edge.Call, in *sdk.DeleteServiceInput) (*sdk.DeleteServiceOutput, error) {
	s, err := e.service(in.Cluster, in.Service)
	if err != nil {
		return nil, err
	}
	c.Resource = *s.state.ServiceArn
	if s.state.DesiredCount > 0 && !value(in.Force) {
		return nil, edge.Invalid("The service cannot be stopped while it is scaled above 0.")
	}
	s.state.DesiredCount = 0
	s.state.Deployments[0].DesiredCount = 0
	s.state.Status = ptr("DRAINING")
	s.steady = false
	e.notify()
	return &sdk.DeleteServiceOutput{Service: e.serviceState(s, true)}, nil
}

func (e *ECS) listServices(_ *edge.Call, in *sdk.ListServicesInput) (*sdk.ListServicesOutput, error) {
	cluster, err := e.cluster(in.Cluster)
	if err != nil {
		return nil, err
	}
	arns := []string{}
	for arn, s := range e.services {
		if *s.state.ClusterArn == e.arn("cluster", cluster) && *s.state.Status == "ACTIVE" {
			arns = append(arns, arn)
		}
	}
	slices.Sort(arns)
	return &sdk.ListServicesOutput{ServiceArns: arns}, nil
}
