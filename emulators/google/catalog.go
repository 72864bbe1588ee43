package google

import "strings"

func words(text string) map[string]bool {
	set := map[string]bool{}
	for _, w := range strings.Fields(text) {
		if !strings.Contains(w, ".") {
			w += ".googleapis.com"
		}
		set[w] = true
	}
	return set
}

// catalog is the services that exist. Enabling another is refused with the
// words for one that does not exist or may not be used; a scenario adds its
// own under "services". Container Registry is left out: it was shut down on
// 2025-03-18.
var catalog = words(`accessapproval accesscontextmanager aiplatform alloydb analyticshub anthos apigateway apigee
	apihub apikeys appengine appengineflex apphub artifactregistry artifactscanning assuredworkloads autoscaling
	backupdr baremetalsolution batch beyondcorp biglake bigquery bigqueryconnection bigquerydatapolicy
	bigquerydatatransfer bigquerymigration bigqueryreservation bigquerystorage bigtable bigtableadmin billingbudgets
	binaryauthorization calendar-json certificatemanager chronicle cloudaicompanion cloudapis cloudasset cloudbilling
	cloudbuild cloudcommerceconsumerprocurement clouddebugger clouddeploy clouderrorreporting cloudfunctions
	cloudidentity cloudkms cloudlatencytest cloudprofiler cloudquotas cloudresourcemanager cloudscheduler cloudshell
	cloudsupport cloudtasks cloudtrace composer compute config connectors contactcenterinsights container
	containeranalysis containerfilesystem containersecurity containerthreatdetection datacatalog dataflow dataform
	datafusion datalineage datamigration datapipelines dataplex dataproc datastore datastream deploymentmanager
	dialogflow discoveryengine dlp dns documentai domains drive essentialcontacts eventarc fcm file firebase
	firebaserules firebasestorage firestore firebasehosting fitness gameservices generativelanguage gkebackup
	gkeconnect gkehub gkemulticloud gkeonprem gmail healthcare iam iamcredentials iap identitytoolkit ids
	integrations kmsinventory language lifesciences livestream logging looker managedidentities managedkafka maps-backend
	memcache mesh meshca meshconfig metastore migrationcenter ml monitoring multiclustermetering netapp
	networkconnectivity networkmanagement networksecurity networkservices notebooks ondemandscanning opsconfigmonitoring
	orgpolicy osconfig oslogin people policyanalyzer policysimulator policytroubleshooter privateca privilegedaccessmanager
	pubsub pubsublite rapidmigrationassessment recaptchaenterprise recommendationengine recommender redis
	resourcesettings retail run runtimeconfig secretmanager securesourcemanager securetoken securitycenter
	securityposture serviceconsumermanagement servicecontrol servicedirectory servicemanagement servicenetworking
	serviceusage sheets source.googleapis.com sourcerepo spanner speech sql-component sqladmin storage storage-api
	storage-component storageinsights storagetransfer sts tagmanager telemetry testing texttospeech threatdetection tpu
	trafficdirector transcoder translate verifiedaccess videointelligence vision vmmigration vmwareengine vpcaccess
	webrisk websecurityscanner workflowexecutions workflows workloadmanager workstations`)

// needBilling are services that cannot be activated without billing.
var needBilling = words(`aiplatform alloydb anthos apigateway apigee artifactregistry backupdr batch bigtable
	bigtableadmin certificatemanager cloudbuild clouddeploy cloudfunctions cloudkms cloudscheduler composer compute
	container containeranalysis dataflow datafusion dataplex dataproc datastream dns eventarc file gkebackup gkehub
	managedkafka memcache metastore networkconnectivity networksecurity networkservices notebooks osconfig privateca redis
	run secretmanager servicenetworking spanner tpu trafficdirector vpcaccess workflows workstations`)

// newProjectServices are enabled in a project made in the console.
var newProjectServices = []string{
	"analyticshub.googleapis.com", "bigquery.googleapis.com", "bigqueryconnection.googleapis.com",
	"bigquerydatapolicy.googleapis.com", "bigquerymigration.googleapis.com", "bigqueryreservation.googleapis.com",
	"bigquerystorage.googleapis.com", "cloudapis.googleapis.com", "cloudtrace.googleapis.com",
	"dataform.googleapis.com", "dataplex.googleapis.com", "datastore.googleapis.com", "logging.googleapis.com",
	"monitoring.googleapis.com", "servicemanagement.googleapis.com", "serviceusage.googleapis.com",
	"sql-component.googleapis.com", "storage-api.googleapis.com", "storage-component.googleapis.com",
	"storage.googleapis.com",
}
