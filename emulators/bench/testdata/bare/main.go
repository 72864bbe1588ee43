// Command bare serves one document of Firestore and does nothing else. The function status is
// compared with it.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"

	"cloud.google.com/go/firestore"
	"github.com/GoogleCloudPlatform/functions-framework-go/funcframework"
	"github.com/GoogleCloudPlatform/functions-framework-go/functions"
)

func main() {
	client, err := firestore.NewClient(context.Background(), os.Getenv("GOOGLE_CLOUD_PROJECT"))
	if err == nil {
		functions.HTTP("bare", func(w http.ResponseWriter, r *http.Request) {
			document, err := client.Doc(os.Getenv("DOCUMENT")).Get(r.Context())
			if err != nil {
				http.Error(w, err.Error(), http.StatusServiceUnavailable)
				return
			}
			w.Header().Set("Content-Type", "application/json")
			_ = json.NewEncoder(w).Encode(map[string]any{"read": document.ReadTime, "fields": len(document.Data())})
		})
		err = funcframework.StartHostPort("127.0.0.1", os.Getenv("PORT"))
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}
