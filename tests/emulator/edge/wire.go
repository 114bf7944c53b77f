package edge

import (
	"encoding/json"
	"math"
	"net/http"
	"reflect"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// DecodeJSON reads a call's body into an SDK input struct (ecs.CreateServiceInput, …) or any other struct. JSON
// members are matched without regard to case, which is what lets the SDK's untagged structs take both camelCase and
// PascalCase. An empty body is an empty input.
func DecodeJSON(c *Call, into any) error {
	if len(c.Body) == 0 {
		return nil
	}
	if err := json.Unmarshal(c.Body, into); err != nil {
		return &Error{Code: "SerializationException", Message: err.Error()}
	}
	return nil
}

// Case says how an API spells its JSON members.
type Case int

const (
	CamelCase  Case = iota // taskArn: ECS, Logs, ECR, Redshift Serverless
	PascalCase             // SessionId: SSM, Secrets Manager, Application Auto Scaling
)

// Wire turns an SDK output struct (or maps, slices, …) into what encoding/json prints as awsJson1.1: members renamed to
// the API's case, nil and empty-enum members left out, times as epoch seconds. The result shares nothing with v.
func Wire(spelling Case, v any) any { return wireValue(reflect.ValueOf(v), spelling) }

// WriteJSON answers 200 with what Wire makes of v.
func WriteJSON(w http.ResponseWriter, spelling Case, v any) error {
	body, err := json.Marshal(Wire(spelling, v))
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	_, err = w.Write(body)
	return err
}

var timeType = reflect.TypeFor[time.Time]()

func wireValue(v reflect.Value, spelling Case) any {
	switch v.Kind() {
	case reflect.Invalid:
		return nil
	case reflect.Pointer, reflect.Interface:
		if v.IsNil() {
			return nil
		}
		return wireValue(v.Elem(), spelling)
	case reflect.Struct:
		if v.Type() == timeType {
			t := v.Interface().(time.Time)
			return math.Round(float64(t.UnixMicro())/1000) / 1000
		}
		return wireStruct(v, spelling)
	case reflect.Slice, reflect.Array:
		if v.Kind() == reflect.Slice && v.Type().Elem().Kind() == reflect.Uint8 {
			return v.Interface() // a blob: encoding/json makes it base64
		}
		list := make([]any, v.Len())
		for i := range list {
			list[i] = wireValue(v.Index(i), spelling)
		}
		return list
	case reflect.Map:
		m := map[string]any{}
		for it := v.MapRange(); it.Next(); {
			m[it.Key().String()] = wireValue(it.Value(), spelling)
		}
		return m
	default:
		return v.Interface()
	}
}

func wireStruct(v reflect.Value, spelling Case) map[string]any {
	m := map[string]any{}
	for i := range v.NumField() {
		field, value := v.Type().Field(i), v.Field(i)
		if !field.IsExported() || field.Name == "ResultMetadata" {
			continue
		}
		switch value.Kind() {
		case reflect.Pointer, reflect.Interface, reflect.Slice, reflect.Map:
			if value.IsNil() {
				continue
			}
		case reflect.String:
			if value.Len() == 0 {
				continue
			}
		}
		m[wireName(field.Name, spelling)] = wireValue(value, spelling)
	}
	return m
}

func wireName(name string, spelling Case) string {
	if spelling == PascalCase {
		return name
	}
	first, size := utf8.DecodeRuneInString(name)
	var b strings.Builder
	b.WriteRune(unicode.ToLower(first))
	b.WriteString(name[size:])
	return b.String()
}
