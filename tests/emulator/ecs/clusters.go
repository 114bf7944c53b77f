package ecs

import (
	"maps"
	"slices"

	"fumidai/tests/emulator/edge"

	sdk "github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
)

func (e *ECS) createCluster(c *edge.Call, in *sdk.CreateClusterInput) (*sdk.CreateClusterOutput, error) {
	name := value(in.ClusterName)
	if name == "" {
		name = "default"
	}
	e.clusters[name] = true
	c.Resource = e.arn("cluster", name)
	cluster := e.clusterState(name)
	return &sdk.CreateClusterOutput{Cluster: &cluster}, nil
}

func (e *ECS) describeClusters(_ *edge.Call, in *sdk.DescribeClustersInput) (*sdk.DescribeClustersOutput, error) {
	ids := in.Clusters
	if len(ids) == 0 {
		ids = []string{"default"}
	}
	out := &sdk.DescribeClustersOutput{Clusters: []types.Cluster{}, Failures: []types.Failure{}}
	for _, id := range ids {
		if name := last(id); e.clusters[name] {
			out.Clusters = append(out.Clusters, e.clusterState(name))
		} else {
			out.Failures = append(out.Failures, types.Failure{Arn: ptr(e.arn("cluster", name)), Reason: ptr("MISSING")})
		}
	}
	return out, nil
}

func (e *ECS) clusterState(name string) types.Cluster {
	c := types.Cluster{ClusterName: &name, ClusterArn: ptr(e.arn("cluster", name)), Status: ptr("ACTIVE"),
		Tags: []types.Tag{}, Settings: []types.ClusterSetting{}, Statistics: []types.KeyValuePair{}, CapacityProviders: []string{"FARGATE"}}
	for _, s := range e.services {
		if *s.state.ClusterArn == *c.ClusterArn && *s.state.Status == "ACTIVE" {
			c.ActiveServicesCount++
		}
	}
	for _, t := range e.tasks {
		if *t.state.ClusterArn != *c.ClusterArn {
			continue
		}
		switch *t.state.LastStatus {
		case statusRunning:
			c.RunningTasksCount++
		case statusProvisioning, statusPending:
			c.PendingTasksCount++
		}
	}
	return c
}

func (e *ECS) listClusters(*edge.Call, *sdk.ListClustersInput) (*sdk.ListClustersOutput, error) {
	out := &sdk.ListClustersOutput{ClusterArns: []string{}}
	for _, name := range slices.Sorted(maps.Keys(e.clusters)) {
		out.ClusterArns = append(out.ClusterArns, e.arn("cluster", name))
	}
	return out, nil
}

func (e *ECS) discoverPollEndpoint(c *edge.Call, _ *sdk.DiscoverPollEndpointInput) (*sdk.DiscoverPollEndpointOutput, error) {
	endpoint := "https://ecs-a-1." + e.Region + ".amazonaws.com/"
	if e.PollEndpoint != nil {
		endpoint = e.PollEndpoint(c)
	}
	return &sdk.DiscoverPollEndpointOutput{Endpoint: &endpoint, TelemetryEndpoint: ptr("https://ecs-t-1." + e.Region + ".amazonaws.com/")}, nil
}

func (e *ECS) listTagsForResource(c *edge.Call, in *sdk.ListTagsForResourceInput) (*sdk.ListTagsForResourceOutput, error) {
	c.Resource = value(in.ResourceArn)
	return &sdk.ListTagsForResourceOutput{Tags: nonNil(e.tags[c.Resource])}, nil
}

func (e *ECS) tagResource(c *edge.Call, in *sdk.TagResourceInput) (*sdk.TagResourceOutput, error) {
	c.Resource = value(in.ResourceArn)
	for _, tag := range in.Tags {
		e.untag(c.Resource, value(tag.Key))
		e.tags[c.Resource] = append(e.tags[c.Resource], tag)
	}
	return &sdk.TagResourceOutput{}, nil
}

func (e *ECS) untagResource(c *edge.Call, in *sdk.UntagResourceInput) (*sdk.UntagResourceOutput, error) {
	c.Resource = value(in.ResourceArn)
	for _, key := range in.TagKeys {
		e.untag(c.Resource, key)
	}
	return &sdk.UntagResourceOutput{}, nil
}

func (e *ECS) untag(arn, key string) {
	e.tags[arn] = slices.DeleteFunc(e.tags[arn], func(t types.Tag) bool { return value(t.Key) == key })
}
