package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/redshift"
	redshifttypes "github.com/aws/aws-sdk-go-v2/service/redshift/types"
	"github.com/aws/aws-sdk-go-v2/service/redshiftserverless"
)

// Of https://github.com/mashiike/redshift-credentials: a workgroup's or a cluster's temporary credentials, printed, or in the
// environment of a command.

// wanted is what the flags say.
type wanted struct {
	workgroup, cluster, user, database string
	seconds                            int
}

func optional[T comparable](value T) *T {
	var zero T
	if value == zero {
		return nil
	}
	return &value
}

func redshiftCredentials(ctx context.Context, args []string) error {
	var w wanted
	flags := flag.NewFlagSet("redshift-credentials", flag.ContinueOnError)
	flags.StringVar(&w.workgroup, "workgroup", "", "")
	flags.StringVar(&w.cluster, "cluster", "", "")
	flags.StringVar(&w.user, "db-user", "", "")
	flags.StringVar(&w.database, "db-name", "", "")
	flags.IntVar(&w.seconds, "duration-seconds", 0, "")
	prefix := flags.String("prefix", "REDSHIFT_", "")
	if err := flags.Parse(args); err != nil {
		return err
	}
	cfg, err := config.LoadDefaultConfig(ctx)
	if err != nil {
		return err
	}
	get := w.serverless
	switch {
	case w.cluster != "":
		get = w.provisioned
	case w.workgroup == "":
		return errors.New("the stand-in wants --workgroup or --cluster")
	}
	variables, err := get(ctx, cfg)
	if err != nil {
		return fmt.Errorf("no credentials: %w", err)
	}
	if flags.NArg() == 0 {
		for _, v := range variables {
			fmt.Printf("export %s%s=%s\n", *prefix, v[0], v[1])
		}
		return nil
	}
	cmd := exec.CommandContext(ctx, flags.Arg(0), flags.Args()[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr, cmd.Env = os.Stdin, os.Stdout, os.Stderr, os.Environ()
	for _, v := range variables {
		cmd.Env = append(cmd.Env, *prefix+v[0]+"="+v[1])
	}
	return cmd.Run() // status 1 whatever the command's was, as the real one does
}

func (w *wanted) serverless(ctx context.Context, cfg aws.Config) ([][2]string, error) {
	client := redshiftserverless.NewFromConfig(cfg)
	c, err := client.GetCredentials(ctx, &redshiftserverless.GetCredentialsInput{
		WorkgroupName: &w.workgroup, DbName: optional(w.database), DurationSeconds: optional(int32(w.seconds)),
	})
	if err != nil {
		return nil, err
	}
	g, err := client.GetWorkgroup(ctx, &redshiftserverless.GetWorkgroupInput{WorkgroupName: &w.workgroup})
	if err != nil {
		return nil, err
	}
	e := g.Workgroup.Endpoint
	variables := [][2]string{{"SERVERLESS_WORKGROUP", w.workgroup}, {"HOST", *e.Address}, {"PORT", fmt.Sprint(*e.Port)},
		{"PASSWORD", *c.DbPassword}, {"USER", *c.DbUser}, {"EXPIRATION", c.Expiration.Format(time.RFC3339Nano)}}
	if c.NextRefreshTime != nil {
		variables = append(variables, [2]string{"NEXT_REFRESH_TIME", c.NextRefreshTime.Format(time.RFC3339Nano)})
	}
	return variables, nil
}

func (w *wanted) provisioned(ctx context.Context, cfg aws.Config) ([][2]string, error) {
	client := redshift.NewFromConfig(cfg)
	var cluster *redshifttypes.Cluster
	describe := func() error {
		out, err := client.DescribeClusters(ctx, &redshift.DescribeClustersInput{ClusterIdentifier: &w.cluster})
		if err != nil {
			return err
		}
		if len(out.Clusters) != 1 {
			return fmt.Errorf("%d clusters %s", len(out.Clusters), w.cluster)
		}
		cluster = &out.Clusters[0]
		return nil
	}
	if w.user == "" { // the master user, who has to be asked for first
		if err := describe(); err != nil {
			return nil, err
		}
		w.user = *cluster.MasterUsername
	}
	c, err := client.GetClusterCredentials(ctx, &redshift.GetClusterCredentialsInput{
		ClusterIdentifier: &w.cluster, DbUser: &w.user, DbName: optional(w.database), DurationSeconds: optional(int32(w.seconds)),
	})
	if err != nil {
		return nil, err
	}
	if cluster == nil {
		if err := describe(); err != nil {
			return nil, err
		}
	}
	return [][2]string{{"PROVISIONED_CLUSTER", w.cluster}, {"HOST", *cluster.Endpoint.Address}, {"PORT", fmt.Sprint(*cluster.Endpoint.Port)},
		{"PASSWORD", *c.DbPassword}, {"USER", *c.DbUser}, {"EXPIRATION", c.Expiration.Format(time.RFC3339Nano)}}, nil
}
