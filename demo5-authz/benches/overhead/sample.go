// An authorizer as tutorials have it: whoever shows a bearer token may pass. With grpc-go, which has to be in the GOPATH.
package main

import (
	"context"
	"fmt"
	"log"
	"net"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
)

const service = "envoy.service.auth.v3.Authorization"

// Envoy's messages, as far as this needs them; the library skips the rest.

type checkRequest struct {
	Attributes *attributes `protobuf:"bytes,1,opt,name=attributes,proto3"`
}

type attributes struct {
	Request *request `protobuf:"bytes,4,opt,name=request,proto3"`
}

type request struct {
	Http *httpRequest `protobuf:"bytes,2,opt,name=http,proto3"`
}

type httpRequest struct {
	Id      string            `protobuf:"bytes,1,opt,name=id,proto3"`
	Method  string            `protobuf:"bytes,2,opt,name=method,proto3"`
	Headers map[string]string `protobuf:"bytes,3,rep,name=headers,proto3" protobuf_key:"bytes,1,opt,name=key,proto3" protobuf_val:"bytes,2,opt,name=value,proto3"`
	Path    string            `protobuf:"bytes,4,opt,name=path,proto3"`
	Host    string            `protobuf:"bytes,5,opt,name=host,proto3"`
}

type checkResponse struct {
	Status *status     `protobuf:"bytes,1,opt,name=status,proto3"`
	Ok     *okResponse `protobuf:"bytes,3,opt,name=ok_response,proto3"`
}

type status struct {
	Code int32 `protobuf:"varint,1,opt,name=code,proto3"`
}

type okResponse struct {
	Headers []*headerOption `protobuf:"bytes,2,rep,name=headers,proto3"`
}

type headerOption struct {
	Header *header `protobuf:"bytes,1,opt,name=header,proto3"`
}

type header struct {
	Key   string `protobuf:"bytes,1,opt,name=key,proto3"`
	Value string `protobuf:"bytes,2,opt,name=value,proto3"`
}

func (m *checkRequest) Reset()          { *m = checkRequest{} }
func (m *checkRequest) String() string  { return "check" }
func (*checkRequest) ProtoMessage()     {}
func (m *attributes) Reset()            { *m = attributes{} }
func (m *attributes) String() string    { return "attributes" }
func (*attributes) ProtoMessage()       {}
func (m *request) Reset()               { *m = request{} }
func (m *request) String() string       { return "request" }
func (*request) ProtoMessage()          {}
func (m *httpRequest) Reset()           { *m = httpRequest{} }
func (m *httpRequest) String() string   { return "http" }
func (*httpRequest) ProtoMessage()      {}
func (m *checkResponse) Reset()         { *m = checkResponse{} }
func (m *checkResponse) String() string { return "answer" }
func (*checkResponse) ProtoMessage()    {}
func (m *status) Reset()                { *m = status{} }
func (m *status) String() string        { return "status" }
func (*status) ProtoMessage()           {}
func (m *okResponse) Reset()            { *m = okResponse{} }
func (m *okResponse) String() string    { return "ok" }
func (*okResponse) ProtoMessage()       {}
func (m *headerOption) Reset()          { *m = headerOption{} }
func (m *headerOption) String() string  { return "option" }
func (*headerOption) ProtoMessage()     {}
func (m *header) Reset()                { *m = header{} }
func (m *header) String() string        { return "header" }
func (*header) ProtoMessage()           {}

func decide(asked *checkRequest) *checkResponse {
	const unauthenticated = 16
	if asked.Attributes == nil || asked.Attributes.Request == nil || asked.Attributes.Request.Http == nil {
		return &checkResponse{Status: &status{Code: unauthenticated}}
	}
	if !strings.HasPrefix(asked.Attributes.Request.Http.Headers["authorization"], "Bearer ") {
		return &checkResponse{Status: &status{Code: unauthenticated}}
	}
	who := &headerOption{Header: &header{Key: "x-auth-principal", Value: "somebody"}}
	return &checkResponse{Status: &status{}, Ok: &okResponse{Headers: []*headerOption{who}}}
}

func check(_ interface{}, _ context.Context, read func(interface{}) error, _ grpc.UnaryServerInterceptor) (interface{}, error) {
	asked := new(checkRequest)
	if err := read(asked); err != nil {
		return nil, err
	}
	return decide(asked), nil
}

func main() {
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	server := grpc.NewServer()
	server.RegisterService(&grpc.ServiceDesc{
		ServiceName: service,
		HandlerType: (*interface{})(nil),
		Methods:     []grpc.MethodDesc{{MethodName: "Check", Handler: check}},
	}, struct{}{})
	wellbeing := health.NewServer()
	wellbeing.SetServingStatus(service, healthpb.HealthCheckResponse_SERVING)
	healthpb.RegisterHealthServer(server, wellbeing)
	fmt.Println("sample listens on", listener.Addr())
	log.Fatal(server.Serve(listener))
}
