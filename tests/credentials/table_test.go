package credentials

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"fmt"
)

// configuration is an environment ("NAME=value NAME=value"; `NAME=` unsets what every configuration has) and files in the home directory.
type configuration struct {
	name                string
	env                 string
	config, credentials string // in ~/.aws
	files               map[string]string
	profile             string // the flag's
	ok                  bool   // the SDK has keys
}

const (
	envKeys   = "AWS_ACCESS_KEY_ID=ENV AWS_SECRET_ACCESS_KEY=secret "
	webEnv    = "AWS_WEB_IDENTITY_TOKEN_FILE=$HOME/token AWS_ROLE_ARN=web "
	container = "AWS_CONTAINER_CREDENTIALS_FULL_URI=$URL/container "
	process   = `credential_process = echo '{"Version": 1, "AccessKeyId": "PROCESS", "SecretAccessKey": "s", "SessionToken": "t"}'` + "\n"
	ssoConfig = "[default]\nsso_session = corp\nsso_account_id = 1\nsso_role_name = admin\n" + ssoSession
	// The session's region differs from the client's.
	ssoSession = "[sso-session corp]\nsso_region = us-east-2\nsso_start_url = https://corp.awsapps.com/start\n"
	ssoLegacy  = "sso_start_url = https://old.awsapps.com/start\nsso_region = us-east-2\nsso_account_id = 2\nsso_role_name = reader\n"
)

var (
	token       = map[string]string{"token": "the.jwt"}
	sessionFile = ssoFile("corp")
	legacyFile  = ssoFile("https://old.awsapps.com/start")
	loginFile   = fmt.Sprintf(".aws/login/cache/%x.json", sha256.Sum256([]byte("arn:me")))
)

func ssoFile(key string) string {
	return fmt.Sprintf(".aws/sso/cache/%x.json", sha1.Sum([]byte(key)))
}

func ssoCache(expires, refreshToken string) string {
	return fmt.Sprintf(`{"startUrl": "https://corp.awsapps.com/start", "region": "us-east-2", "accessToken": "cached", "expiresAt": %q, `+
		`"clientId": "client", "clientSecret": "hush", "registrationExpiresAt": "2099-01-01T00:00:00Z", "refreshToken": %q}`, expires, refreshToken)
}

// loginKey is the key of a session that `aws login` began.
var loginKey = func() *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	return key
}()

func loginCache(expires string) string {
	return loginCacheWith(expires, "refresh")
}

func loginCacheWith(expires, refreshToken string) string {
	der, err := x509.MarshalECPrivateKey(loginKey)
	if err != nil {
		panic(err)
	}
	key := pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der})
	return fmt.Sprintf(`{"accessToken": {"accessKeyId": "LOGIN", "secretAccessKey": "s", "sessionToken": "t", "accountId": "1", "expiresAt": %q}, `+
		`"tokenType": "aws_sigv4", "refreshToken": %q, "idToken": "i", "clientId": "c", "dpopKey": %q}`, expires, refreshToken, key)
}

func file(name, text string) map[string]string {
	return map[string]string{name: text}
}

var configurations = []configuration{
	// the order of sources
	{name: "nothing but an instance", ok: true},
	{name: "nothing at all", env: "AWS_EC2_METADATA_DISABLED=true"},
	{name: "keys in the environment", env: envKeys, ok: true},
	{name: "keys with a session token", env: envKeys + "AWS_SESSION_TOKEN=t", ok: true},
	{name: "keys by their old names", env: "AWS_ACCESS_KEY=OLD AWS_SECRET_KEY=secret", ok: true},
	{name: "half a pair in the environment", env: "AWS_ACCESS_KEY_ID=HALF", ok: true},
	{name: "the other half", env: "AWS_SECRET_ACCESS_KEY=half", ok: true},
	{name: "half a pair and a profile", env: "AWS_ACCESS_KEY_ID=HALF", credentials: "[default]\n" + keys("DEFAULT"), ok: true},
	{name: "environment before profile", env: envKeys, credentials: "[default]\n" + keys("DEFAULT"), ok: true},
	{name: "environment before AWS_PROFILE", env: envKeys + "AWS_PROFILE=p", credentials: "[p]\n" + keys("P"), ok: true},
	{name: "environment before web identity", env: envKeys + webEnv, files: token, ok: true},
	{name: "environment before container", env: envKeys + container, ok: true},
	{name: "web identity before profile", env: webEnv, files: token, credentials: "[default]\n" + keys("DEFAULT"), ok: true},
	{name: "web identity before AWS_PROFILE", env: webEnv + "AWS_PROFILE=p", files: token, credentials: "[p]\n" + keys("P"), ok: true},
	{name: "web identity with a session name", env: webEnv + "AWS_ROLE_SESSION_NAME=me", files: token, ok: true},
	{name: "web identity without a role", env: "AWS_WEB_IDENTITY_TOKEN_FILE=$HOME/token", files: token},
	{name: "web identity without its file", env: webEnv},
	{name: "web identity that is denied", env: "AWS_WEB_IDENTITY_TOKEN_FILE=$HOME/token AWS_ROLE_ARN=denied", files: token},
	{name: "a role without a token is not used", env: "AWS_ROLE_ARN=r", ok: true},
	{name: "profile before container", env: container, credentials: "[default]\n" + keys("DEFAULT"), ok: true},
	{name: "container before instance", env: container, ok: true},
	{name: "container with a token", env: container + "AWS_CONTAINER_AUTHORIZATION_TOKEN=secret", ok: true},
	{name: "container with a token file", env: container + "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE=$HOME/token", files: token, ok: true},
	{name: "container that refuses", env: "AWS_CONTAINER_CREDENTIALS_FULL_URI=$URL/refused"},
	{name: "container that may not be asked", env: "AWS_CONTAINER_CREDENTIALS_FULL_URI=http://192.0.2.1/container"},
	{name: "a failing source is not skipped", env: container, config: "[default]\ncredential_process = exit 1\n"},

	// which profile
	{name: "default in the config file", config: "[default]\n" + keys("DEFAULT"), ok: true},
	{name: "profile default wins over default", config: "[profile default]\n" + keys("PREFIXED") + "[default]\n" + keys("DEFAULT"), ok: true},
	{name: "a flag", config: "[profile p]\n" + keys("P"), profile: "p", ok: true},
	{name: "a flag before the environment's keys", env: envKeys, config: "[profile p]\n" + keys("P"), profile: "p", ok: true},
	{name: "a flag before web identity", env: webEnv, files: token, config: "[profile p]\n" + keys("P"), profile: "p", ok: true},
	{name: "a flag before AWS_PROFILE", env: "AWS_PROFILE=q", config: "[profile p]\n" + keys("P") + "[profile q]\n" + keys("Q"), profile: "p", ok: true},
	{name: "a flag without a profile", profile: "p"},
	{name: "AWS_PROFILE", env: "AWS_PROFILE=p", config: "[profile p]\n" + keys("P"), ok: true},
	{name: "AWS_PROFILE without a profile", env: "AWS_PROFILE=p", credentials: "[default]\n" + keys("DEFAULT")},
	{name: "AWS_PROFILE without a profile, with keys", env: envKeys + "AWS_PROFILE=p"},
	{name: "AWS_DEFAULT_PROFILE", env: "AWS_DEFAULT_PROFILE=p", config: "[profile p]\n" + keys("P"), ok: true},
	{name: "AWS_DEFAULT_PROFILE without a profile", env: "AWS_DEFAULT_PROFILE=p", credentials: "[default]\n" + keys("DEFAULT"), ok: true},
	{name: "a profile without its prefix", env: "AWS_PROFILE=p", config: "[p]\n" + keys("P")},
	{name: "a profile with a prefix in the credentials file", env: "AWS_PROFILE=p", credentials: "[profile p]\n" + keys("P")},
	{name: "a name with blanks", env: "AWS_DEFAULT_PROFILE=x", config: "[profile  two  words ]\n" + keys("TWO"), profile: "two  words", ok: true},
	{name: "names have a case", env: "AWS_PROFILE=Dev", config: "[profile dev]\n" + keys("P")},

	// files
	{name: "the credentials file wins", config: "[profile p]\n" + keys("CONFIG"), credentials: "[p]\n" + keys("CREDENTIALS"), profile: "p", ok: true},
	{name: "settings of both files", config: "[profile p]\nregion = ap-south-1\n", credentials: "[p]\n" + keys("P"), profile: "p", env: "AWS_REGION=", ok: true},
	{name: "half a pair in a file", config: "[default]\naws_access_key_id = HALF\n"},
	{name: "half a pair and the environment's keys", env: envKeys, config: "[default]\naws_access_key_id = HALF\n"},
	{name: "half a pair that the other file replaces", config: "[default]\naws_access_key_id = HALF\n", credentials: "[default]\n" + keys("WHOLE"), ok: true},
	{name: "a whole pair that half a pair replaces", config: "[default]\n" + keys("WHOLE"), credentials: "[default]\naws_access_key_id = HALF\n"},
	{name: "a section that stands twice", config: "[default]\naws_access_key_id = A\n[profile x]\n[default]\naws_secret_access_key = s\n", ok: true},
	{name: "a value that stands twice", config: "[default]\n" + keys("ONE") + keys("TWO"), ok: true},
	{name: "comments, colons, quotes, capitals", config: "# x\n [default] ; x\nAWS_ACCESS_KEY_ID: \"QUOTED\" # x\naws_secret_access_key = s#t\n", ok: true},
	{name: "lines that end in CR LF", config: "[default]\r\naws_access_key_id = CRLF\r\naws_secret_access_key = s\r\n", ok: true},
	{name: "an indented setting", config: "[default]\n  aws_access_key_id = INDENTED\n  aws_secret_access_key = s\n", ok: true},
	{name: "a setting below a nested one", config: "[default]\ns3 =\n  max = 1\naws_access_key_id = NESTED\naws_secret_access_key = s\n", ok: true},
	{name: "settings outside of sections", config: keys("OUTSIDE") + "[default]\n", ok: true},
	{name: "lines that are nothing", config: "[default]\n???\n[broken\n" + keys("OK"), ok: true},
	{name: "files elsewhere", env: "AWS_CONFIG_FILE=$HOME/c AWS_SHARED_CREDENTIALS_FILE=$HOME/s", config: "[default]\n" + keys("HOME"),
		files: map[string]string{"c": "[profile p]\nregion = eu-north-1\n", "s": "[p]\n" + keys("ELSEWHERE")}, profile: "p", ok: true},
	{name: "files that are not there", env: "AWS_CONFIG_FILE=$HOME/c AWS_SHARED_CREDENTIALS_FILE=$HOME/s", config: "[default]\n" + keys("HOME"), ok: true},

	// roles
	{name: "a role with its own keys", config: "[default]\nrole_arn = r\n" + keys("BASE"), ok: true},
	{name: "source_profile", config: "[default]\nrole_arn = r\nsource_profile = k\n[profile k]\n" + keys("BASE"), ok: true},
	{name: "source_profile in the credentials file", config: "[default]\nrole_arn = r\nsource_profile = k\n", credentials: "[k]\n" + keys("BASE"), ok: true},
	{name: "three roles", config: "[default]\nrole_arn = a\nsource_profile = b\n[profile b]\nrole_arn = b\nsource_profile = c\n[profile c]\nrole_arn = c\n" +
		"source_profile = k\n[profile k]\n" + keys("BASE"), ok: true},
	{name: "what a role is asked for with", config: "[default]\nrole_arn = r\nsource_profile = k\nrole_session_name = me\nexternal_id = a b\nduration_seconds = 3600\n" +
		"[profile k]\n" + keys("BASE"), ok: true},
	{name: "a short duration is ignored", config: "[default]\nrole_arn = r\nduration_seconds = 600\n" + keys("BASE"), ok: true},
	{name: "a role of the profile itself", config: "[default]\nrole_arn = r\nsource_profile = default\n" + keys("BASE"), ok: true},
	{name: "a role of the profile itself without keys", config: "[default]\nrole_arn = r\nsource_profile = default\n"},
	{name: "a ring", config: "[default]\nrole_arn = a\nsource_profile = b\n[profile b]\nrole_arn = b\nsource_profile = default\n"},
	{name: "a ring with keys", config: "[default]\nrole_arn = a\nsource_profile = b\n" + keys("RING") + "[profile b]\nrole_arn = b\nsource_profile = default\n", ok: true},
	{name: "a source with keys and a role of its own", config: "[default]\nrole_arn = a\nsource_profile = b\n[profile b]\nrole_arn = b\nsource_profile = c\n" + keys("B") +
		"[profile c]\n" + keys("C"), ok: true},
	{name: "a source that is not there", config: "[default]\nrole_arn = r\nsource_profile = nowhere\n"},
	{name: "a source without keys", config: "[default]\nrole_arn = r\nsource_profile = k\n[profile k]\nregion = x\n"},
	{name: "source_profile without a role", config: "[default]\nsource_profile = k\n[profile k]\n" + keys("BASE")},
	{name: "source_profile and credential_source", env: envKeys, config: "[default]\nrole_arn = r\nsource_profile = k\ncredential_source = Environment\n[profile k]\n" + keys("K")},
	{name: "a role that is denied", config: "[default]\nrole_arn = denied\n" + keys("BASE")},
	{name: "a role that wants a code", config: "[default]\nrole_arn = r\nmfa_serial = arn:mfa\n" + keys("BASE")},
	{name: "a role of the instance by default", config: "[default]\nrole_arn = r\n", ok: true},
	{name: "a role of the container by default", env: container, config: "[default]\nrole_arn = r\n", ok: true},
	{name: "credential_source Environment", env: envKeys + "AWS_PROFILE=p", config: "[profile p]\nrole_arn = r\ncredential_source = Environment\n", profile: "p", ok: true},
	{name: "credential_source Environment without keys", config: "[default]\nrole_arn = r\ncredential_source = Environment\n"},
	{name: "credential_source EcsContainer", env: container, config: "[default]\nrole_arn = r\ncredential_source = EcsContainer\n", ok: true},
	{name: "credential_source EcsContainer without one", config: "[default]\nrole_arn = r\ncredential_source = EcsContainer\n"},
	{name: "credential_source Ec2InstanceMetadata", env: container, config: "[default]\nrole_arn = r\ncredential_source = Ec2InstanceMetadata\n", ok: true},
	{name: "credential_source of another name", config: "[default]\nrole_arn = r\ncredential_source = ec2instancemetadata\n"},
	{name: "credential_source without a role", env: envKeys, config: "[default]\ncredential_source = Environment\n"},
	{name: "a token file in a profile", config: "[default]\nrole_arn = r\nweb_identity_token_file = $HOME/token\nrole_session_name = me\n", files: token, ok: true},
	{name: "a token file in a profile without a role", config: "[default]\nweb_identity_token_file = $HOME/token\n", files: token},
	{name: "a role behind a token file", config: "[default]\nrole_arn = a\nsource_profile = w\n[profile w]\nrole_arn = w\nweb_identity_token_file = $HOME/token\n", files: token, ok: true},

	// processes
	{name: "a process", config: "[default]\n" + process, ok: true},
	{name: "a process and a role", config: "[default]\nrole_arn = r\n" + process, ok: true},
	{name: "a process of a source", config: "[default]\nrole_arn = r\nsource_profile = p\n[profile p]\n" + process, ok: true},
	{name: "keys before a process", config: "[default]\n" + keys("KEYS") + process, ok: true},
	{name: "a process that fails", config: "[default]\ncredential_process = exit 3\n"},
	{name: "a process that says nothing", config: "[default]\ncredential_process = true\n"},
	{name: "a process of another version", config: "[default]\ncredential_process = echo '{\"Version\": 2, \"AccessKeyId\": \"A\", \"SecretAccessKey\": \"s\"}'\n"},
	{name: "a process without a secret", config: "[default]\ncredential_process = echo '{\"Version\": 1, \"AccessKeyId\": \"A\"}'\n"},
	{name: "a process and a token file", config: "[default]\nrole_arn = r\nweb_identity_token_file = $HOME/token\n" + process, files: token},

	// IAM Identity Center
	{name: "sso", config: ssoConfig, files: file(sessionFile, ssoCache(far, "refresh")), ok: true},
	{name: "sso with a refresh", config: ssoConfig, files: file(sessionFile, ssoCache("2020-01-01T00:00:00Z", "refresh")), ok: true},
	{name: "sso with a refresh token that is spent", config: ssoConfig, files: file(sessionFile, ssoCache("2020-01-01T00:00:00Z", "spent"))},
	{name: "sso that has expired", config: ssoConfig, files: file(sessionFile, ssoCache("2020-01-01T00:00:00Z", ""))},
	{name: "sso without a login", config: ssoConfig},
	{name: "sso with a broken file", config: ssoConfig, files: file(sessionFile, "{")},
	{name: "sso without its session", config: "[default]\nsso_session = other\nsso_account_id = 1\nsso_role_name = admin\n" + ssoSession, files: file(sessionFile, ssoCache(far, "r"))},
	{name: "sso with another region than its session", config: "[default]\nsso_session = corp\nsso_region = eu-west-1\nsso_account_id = 1\nsso_role_name = admin\n" + ssoSession,
		files: file(sessionFile, ssoCache(far, "r"))},
	{name: "sso and a role", config: "[default]\nrole_arn = r\nsource_profile = s\n[profile s]\nsso_session = corp\nsso_account_id = 1\nsso_role_name = admin\n" + ssoSession,
		files: file(sessionFile, ssoCache(far, "r")), ok: true},
	{name: "sso before a process", config: "[default]\n" + process + "sso_session = corp\nsso_account_id = 1\nsso_role_name = admin\n" + ssoSession,
		files: file(sessionFile, ssoCache(far, "r")), ok: true},
	{name: "keys before sso", config: ssoConfig, credentials: "[default]\n" + keys("KEYS"), ok: true},
	{name: "sso of the old kind", config: "[default]\n" + ssoLegacy, files: file(legacyFile, ssoCache(far, "")), ok: true},
	{name: "sso of the old kind that has expired", config: "[default]\n" + ssoLegacy, files: file(legacyFile, ssoCache("2020-01-01T00:00:00Z", ""))},
	{name: "sso of the old kind, not complete", config: "[default]\nsso_start_url = https://old.awsapps.com/start\n", files: file(legacyFile, ssoCache(far, ""))},

	// aws login
	{name: "login", config: "[default]\nlogin_session = arn:me\n", files: file(loginFile, loginCache(far)), ok: true},
	{name: "login in another directory", env: "AWS_LOGIN_CACHE_DIRECTORY=$HOME/cache", config: "[default]\nlogin_session = arn:me\n",
		files: file("cache/"+loginFile[len(".aws/login/cache/"):], loginCache(far)), ok: true},
	{name: "login and a role", config: "[default]\nlogin_session = arn:me\nrole_arn = r\n", files: file(loginFile, loginCache(far)), ok: true},
	{name: "login before a process", config: "[default]\nlogin_session = arn:me\n" + process, files: file(loginFile, loginCache(far)), ok: true},
	{name: "login with a refresh", config: "[default]\nlogin_session = arn:me\n", files: file(loginFile, loginCache("2020-01-01T00:00:00Z")), ok: true},
	{name: "login with a refresh token that is spent", config: "[default]\nlogin_session = arn:me\n",
		files: file(loginFile, loginCacheWith("2020-01-01T00:00:00Z", "spent"))},
	{name: "login with a broken file", config: "[default]\nlogin_session = arn:me\n", files: file(loginFile, `{"accessToken": {}}`)},
	{name: "no login", config: "[default]\nlogin_session = arn:me\n"},

	// regions
	{name: "no region", env: envKeys + "AWS_REGION=", ok: true},
	{name: "AWS_DEFAULT_REGION", env: envKeys + "AWS_REGION= AWS_DEFAULT_REGION=us-west-2", ok: true},
	{name: "AWS_REGION before AWS_DEFAULT_REGION", env: envKeys + "AWS_REGION=us-west-1 AWS_DEFAULT_REGION=us-west-2", ok: true},
	{name: "a profile's region", env: "AWS_REGION=", config: "[default]\nregion = ca-central-1\nrole_arn = r\n" + keys("BASE"), ok: true},
	{name: "the environment's region before a profile's", config: "[profile p]\nregion = ca-central-1\n" + keys("P"), profile: "p", ok: true},
	{name: "not the source profile's region", env: "AWS_REGION=", config: "[default]\nregion = ca-central-1\nrole_arn = r\nsource_profile = k\n[profile k]\nregion = sa-east-1\n" +
		keys("BASE"), ok: true},
	{name: "a role without a region", env: "AWS_REGION= AWS_ENDPOINT_URL_STS=", config: "[default]\nrole_arn = r\nsource_profile = k\n[profile k]\nregion = sa-east-1\n" + keys("BASE")},

	// endpoints, of ECS
	{name: "an endpoint for all", env: envKeys + "AWS_ENDPOINT_URL=https://all.example:8443/x/", ok: true},
	{name: "an endpoint for the service", env: envKeys + "AWS_ENDPOINT_URL=https://all.example AWS_ENDPOINT_URL_ECS=http://ecs.example", ok: true},
	{name: "a profile's endpoint", config: "[default]\nendpoint_url = https://profile.example\n" + keys("A"), ok: true},
	{name: "a profile's endpoint for the service", config: "[default]\nservices = x\nendpoint_url = https://profile.example\n" + keys("A") +
		"[services x]\nsts =\n  endpoint_url = https://sts.example\necs =\n  endpoint_url = https://service.example\n", ok: true},
	{name: "the environment's endpoint for all before a profile's for the service", env: "AWS_ENDPOINT_URL=https://all.example",
		config: "[default]\nservices = x\n" + keys("A") + "[services x]\necs =\n  endpoint_url = https://service.example\n", ok: true},
	{name: "the environment's endpoint for the service before a profile's", env: "AWS_ENDPOINT_URL_ECS=https://ecs.example",
		config: "[default]\nservices = x\n" + keys("A") + "[services x]\necs =\n  endpoint_url = https://service.example\n", ok: true},
	{name: "services that are not there", config: "[default]\nservices = y\n" + keys("A") + "[services x]\necs =\n  endpoint_url = https://service.example\n", ok: true},
	{name: "endpoints that are ignored", env: envKeys + "AWS_ENDPOINT_URL_ECS=https://ecs.example AWS_IGNORE_CONFIGURED_ENDPOINT_URLS=true", ok: true},
	{name: "endpoints that a profile ignores", env: "AWS_ENDPOINT_URL_ECS=https://ecs.example", config: "[default]\nignore_configured_endpoint_urls = true\n" + keys("A"), ok: true},
	{name: "FIPS", env: envKeys + "AWS_REGION=us-east-1 AWS_USE_FIPS_ENDPOINT=true", ok: true},
	{name: "a profile's FIPS and dual-stack", env: "AWS_REGION=us-east-1", config: "[default]\nuse_fips_endpoint = true\nuse_dualstack_endpoint = TRUE\n" + keys("A"), ok: true},
	{name: "the environment's FIPS before a profile's", env: "AWS_USE_FIPS_ENDPOINT=false", config: "[default]\nuse_fips_endpoint = true\n" + keys("A"), ok: true},
	{name: "a switch that is neither", config: "[default]\nuse_fips_endpoint = maybe\n" + keys("A"), ok: true},
	{name: "FIPS and an endpoint", env: envKeys + "AWS_USE_FIPS_ENDPOINT=true AWS_ENDPOINT_URL_ECS=https://ecs.example", ok: true},
	{name: "dual-stack in China", env: envKeys + "AWS_REGION=cn-north-1 AWS_USE_DUALSTACK_ENDPOINT=true", ok: true},

	// retries
	{name: "a retry mode", env: envKeys + "AWS_RETRY_MODE=adaptive AWS_MAX_ATTEMPTS=5", ok: true},
	{name: "a retry mode that is none", env: envKeys + "AWS_RETRY_MODE=often"},
	{name: "attempts that are no number", env: envKeys + "AWS_MAX_ATTEMPTS=few"},
	{name: "a profile's retry mode that is none", env: envKeys, config: "[default]\nretry_mode = often\n"},
}

// What fumidai takes and the SDK for Go does not know, or refuses.
var beyond = []struct {
	configuration
	key, asked string
}{
	{configuration: configuration{name: "GitHub's identity token", ok: true,
		env: "AWS_ROLE_ARN=hub ACTIONS_ID_TOKEN_REQUEST_URL=$URL/github?v=2 ACTIONS_ID_TOKEN_REQUEST_TOKEN=hush"}, key: "OF-hub",
		asked: "github audience=sts.amazonaws.com authorization=bearer hush\n" +
			"AssumeRoleWithWebIdentity/sts role=hub session=GitHubActions external= duration= token=github.jwt"},
	{configuration: configuration{name: "AWS_PROFILE before GitHub's identity token", ok: true, credentials: "[p]\n" + keys("P"),
		env: "AWS_PROFILE=p AWS_ROLE_ARN=hub ACTIONS_ID_TOKEN_REQUEST_URL=$URL/github ACTIONS_ID_TOKEN_REQUEST_TOKEN=hush"}, key: "P"},
	{configuration: configuration{name: "a role behind aws login", ok: true, files: file(loginFile, loginCache(far)),
		config: "[default]\nrole_arn = r\nsource_profile = l\n[profile l]\nlogin_session = arn:me\n"}, key: "OF-r",
		asked: "AssumeRole/sts role=r session= external= duration= token= by LOGIN in eu-west-1 for sts"},
	{configuration: configuration{name: "the AWS CLI's old retry mode", ok: true, env: envKeys + "AWS_RETRY_MODE=legacy"}, key: "ENV"},
}
