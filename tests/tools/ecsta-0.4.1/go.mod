module fumidai/tests/tools/ecsta-0.4.1

go 1.26.0

tool github.com/fujiwara/ecsta/cmd/ecsta

require (
	github.com/Songmu/flextime v0.1.0 // indirect
	github.com/Songmu/prompter v0.5.1 // indirect
	github.com/alecthomas/kong v0.7.0 // indirect
	github.com/aws/aws-sdk-go-v2 v1.17.5 // indirect
	github.com/aws/aws-sdk-go-v2/config v1.18.15 // indirect
	github.com/aws/aws-sdk-go-v2/credentials v1.13.15 // indirect
	github.com/aws/aws-sdk-go-v2/feature/ec2/imds v1.12.23 // indirect
	github.com/aws/aws-sdk-go-v2/internal/configsources v1.1.29 // indirect
	github.com/aws/aws-sdk-go-v2/internal/endpoints/v2 v2.4.23 // indirect
	github.com/aws/aws-sdk-go-v2/internal/ini v1.3.30 // indirect
	github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs v1.15.14 // indirect
	github.com/aws/aws-sdk-go-v2/service/ecs v1.20.0 // indirect
	github.com/aws/aws-sdk-go-v2/service/internal/presigned-url v1.9.23 // indirect
	github.com/aws/aws-sdk-go-v2/service/sns v1.17.13 // indirect
	github.com/aws/aws-sdk-go-v2/service/ssm v1.27.9 // indirect
	github.com/aws/aws-sdk-go-v2/service/sso v1.12.4 // indirect
	github.com/aws/aws-sdk-go-v2/service/ssooidc v1.14.4 // indirect
	github.com/aws/aws-sdk-go-v2/service/sts v1.18.5 // indirect
	github.com/aws/smithy-go v1.13.5 // indirect
	github.com/creack/pty v1.1.20 // indirect
	github.com/fujiwara/ecsta v0.4.1 // indirect
	github.com/fujiwara/tracer v1.0.2 // indirect
	github.com/itchyny/gojq v0.12.11 // indirect
	github.com/itchyny/timefmt-go v0.1.5 // indirect
	github.com/jmespath/go-jmespath v0.4.0 // indirect
	github.com/mattn/go-isatty v0.0.16 // indirect
	github.com/mattn/go-runewidth v0.0.14 // indirect
	github.com/olekukonko/tablewriter v0.0.5 // indirect
	github.com/rivo/uniseg v0.3.4 // indirect
	github.com/samber/lo v1.36.0 // indirect
	github.com/tkuchiki/go-timezone v0.2.2 // indirect
	github.com/tkuchiki/parsetime v0.3.0 // indirect
	golang.org/x/exp v0.0.0-20220303212507-bbda1eaf7a17 // indirect
	golang.org/x/sys v0.2.0 // indirect
	golang.org/x/term v0.0.0-20220722155259-a9ba230a4035 // indirect
)
