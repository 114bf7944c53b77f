package emulator_test

import (
	"strings"
	"testing"

	"fumidai/tests/emulator"
)

func TestStart(t *testing.T) {
	e, err := emulator.Start(emulator.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	if !strings.HasPrefix(e.URL(), "https://127.0.0.1:") || e.Region != "ap-northeast-1" {
		t.Errorf("%s in %s", e.URL(), e.Region)
	}
}
