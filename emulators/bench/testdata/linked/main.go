// Command linked is hello with the seven client libraries that the product is made
// of, none of which it uses.
package main

import (
	"fmt"
	"net/http"
	"os"

	_ "cloud.google.com/go/cloudtasks/apiv2"
	_ "cloud.google.com/go/firestore"
	_ "cloud.google.com/go/secretmanager/apiv1"
	"github.com/GoogleCloudPlatform/functions-framework-go/funcframework"
	"github.com/GoogleCloudPlatform/functions-framework-go/functions"
	_ "github.com/hashicorp/vault/api"
	_ "golang.org/x/oauth2"
	_ "google.golang.org/api/cloudasset/v1"
	_ "google.golang.org/api/cloudbilling/v1"
	_ "google.golang.org/api/cloudresourcemanager/v3"
	_ "google.golang.org/api/iam/v1"
	_ "google.golang.org/api/iamcredentials/v1"
	_ "google.golang.org/api/orgpolicy/v2"
	_ "google.golang.org/api/serviceusage/v1"
)

func main() {
	functions.HTTP("hello", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "hello") })
	if err := funcframework.StartHostPort("127.0.0.1", os.Getenv("PORT")); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
