package services

import (
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"time"

	"fumidai/tests/emulator/edge"
)

func (s *Services) expiry(seconds int) time.Time {
	life := s.CredentialLifetime
	if seconds > 0 {
		life = time.Duration(seconds) * time.Second
	}
	return s.Edge.Now().Add(life)
}

func (s *Services) serverlessCredentials(c *edge.Call, in document) (document, error) {
	name := in.text("workgroupName")
	w, known := s.Workgroups[name]
	if !known {
		return nil, notFound("ResourceNotFoundException", "The specified workgroup was not found.")
	}
	c.Resource = s.workgroupARN(name)
	until := s.expiry(in.number("durationSeconds"))
	return document{"dbUser": w.User, "dbPassword": w.Password, "expiration": until.Unix(), "nextRefreshTime": until.Add(-time.Minute).Unix()}, nil
}

func (s *Services) workgroupARN(name string) string {
	return fmt.Sprintf("arn:aws:redshift-serverless:%s:%s:workgroup/%s", s.Region, s.Account, name)
}

func (s *Services) workgroupState(name string) document {
	w := s.Workgroups[name]
	return document{"workgroupName": name, "workgroupArn": s.workgroupARN(name), "namespaceName": name, "status": "AVAILABLE", "port": w.Port,
		"endpoint": document{"address": w.Host, "port": w.Port}}
}

func (s *Services) workgroup(c *edge.Call, in document) (document, error) {
	name := in.text("workgroupName")
	if _, known := s.Workgroups[name]; !known {
		return nil, notFound("ResourceNotFoundException", "The specified workgroup was not found.")
	}
	c.Resource = s.workgroupARN(name)
	return document{"workgroup": s.workgroupState(name)}, nil
}

func (s *Services) workgroups(*edge.Call, document) (document, error) {
	list := []document{}
	for _, name := range slices.Sorted(maps.Keys(s.Workgroups)) {
		list = append(list, s.workgroupState(name))
	}
	return document{"workgroups": list}, nil
}

func (s *Services) describeClusters(_ *edge.Call, in url.Values) (element, error) {
	names := slices.Sorted(maps.Keys(s.Clusters))
	if name := in.Get("ClusterIdentifier"); name != "" {
		if _, known := s.Clusters[name]; !known {
			return element{}, &edge.Error{Status: 404, Code: "ClusterNotFound", Message: "Cluster " + name + " not found."}
		}
		names = []string{name}
	}
	list := []element{}
	for _, name := range names {
		c := s.Clusters[name]
		list = append(list, element{"Cluster", []element{
			{"ClusterIdentifier", name}, {"ClusterStatus", "available"}, {"MasterUsername", c.User}, {"DBName", c.Database},
			{"Endpoint", []element{{"Address", c.Host}, {"Port", c.Port}}},
		}})
	}
	return element{content: []element{{"Clusters", list}}}, nil
}

func (s *Services) clusterCredentials(c *edge.Call, in url.Values) (element, error) {
	return s.credentialsFor(c, in, "IAM:"+in.Get("DbUser"))
}

func (s *Services) clusterCredentialsWithIAM(c *edge.Call, in url.Values) (element, error) {
	return s.credentialsFor(c, in, "IAMR:"+lastPart(c.Principal.ARN))
}

func (s *Services) credentialsFor(c *edge.Call, in url.Values, user string) (element, error) {
	name := in.Get("ClusterIdentifier")
	cluster, known := s.Clusters[name]
	if !known {
		return element{}, &edge.Error{Status: 404, Code: "ClusterNotFound", Message: "Cluster " + name + " not found."}
	}
	c.Resource = fmt.Sprintf("arn:aws:redshift:%s:%s:cluster:%s", s.Region, s.Account, name)
	seconds, _ := strconv.Atoi(in.Get("DurationSeconds"))
	until := s.expiry(seconds).UTC().Format(time.RFC3339)
	return element{content: []element{{"DbUser", user}, {"DbPassword", cluster.Password}, {"Expiration", until}, {"NextRefreshTime", until}}}, nil
}
