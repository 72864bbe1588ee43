// Package google is Google Cloud, emulated over HTTP: OAuth for web servers,
// and as much of eight APIs as connecting somebody's cloud takes. With it come
// the things that make the real one hard: time, propagation, quotas, short
// pages, stale etags, members that do not exist yet, and faults on demand.
// [Server] is an http.Handler. Everything is under one listener; [Endpoints]
// gives the addresses, and the table in methods.go is the list of what is
// covered. A request for anything else is answered as Google answers a wrong
// URL, and a request with an unknown field or parameter is refused, as there.
//
// # What it is faithful to
//
// Shapes of requests, answers and errors are those of the APIs' discovery
// documents (the tests hold every exchange against them), and what gcloud sends
// is understood (gcloud_test.go runs it); codes, statuses and ErrorInfo reasons
// are Google's, texts too where they are known. Permissions follow from role
// bindings on the account, project, folders and organization, by the table in
// roles.go. Calls are checked in Google's order: credentials, scope, quota
// project (X-Goog-User-Project), API enabled in the consumer project, quota,
// permission. Without that header the consumer is the project of the OAuth
// client for users and the own project for service accounts.
//
// A new binding gives its role after the scenario's delay; one that is kept
// never loses it. New service accounts are seen late. Operations end by the
// clock. Nothing runs in the background: state that depends on time is
// computed when read, from [Clock].
//
// # What it is not
//
// Nobody signs in: the consent page (GET /o/oauth2/v2/auth) lets anyone be any
// user of the scenario. It always asks, even for what was granted before. A
// program answers it by POST to the same path with the form fields
//
//	request  the query of the authorization request (hidden in the page)
//	user     email
//	scope    one field for each scope granted
//	action   allow or deny
//
// or in process by [Server.Authorize]. Conditions are evaluated where they
// compare request.time, and others not (see conditionsHold); deny policies,
// custom roles as resources, delegation chains, wildcards in fields=,
// organization policies of folders and organizations (but as given in the
// scenario), tags and request filters beyond the simple are missing. Searches for
// assets ignore orderBy and readMask, and setIamPolicy its update mask: audit
// configurations are accepted and not kept.
// These answers are not recorded anywhere and are guesses: creating an account
// where iam.disableServiceAccountCreation is enforced (400
// FAILED_PRECONDITION), a token of a disabled account (400
// FAILED_PRECONDITION), the managed constraint on members (400
// FAILED_PRECONDITION), an unknown operation (403), conditions below version 3
// (400). A project without organization has no organization policy that can be
// set: nobody can hold the permission there, so the answer is 403.
// testIamPermissions on a project that exists answers {} to strangers; of one
// that does not, 403.
//
// # Adding a method
//
// Add its line to the table in methods.go, with the permission Google asks for,
// and write its handler beside those of its API. Handlers run with the server's
// lock held and never wait. TestEveryMethodIsAsGooglePublishesIt fails until it
// has a call of the method that succeeds; let it see each form of the answer.
//
// # Scenarios
//
// A scenario is JSON; the fields are those of [Scenario] and the types below
// it, default.json is an example. Unknown fields are refused.
//
//	users          email, sub, name, domain, refreshError, sessionLength
//	groups         email, members
//	clients        id, secret, name, redirectUris, anyLoopbackPort, project (that owns it),
//	               authError, authErrorPage, noRefreshToken, refreshLifetime, timeBasedAccess, rotateRefresh
//	organizations  id, domain, customerId, bindings, orgPolicies
//	folders        id, parent, bindings, orgPolicies
//	projects       id, number, name, state, parent, createTime, labels, billingAccount,
//	               billingClosed, bindings, enabledApis, serviceFailures, serviceAccounts,
//	               resources, orgPolicies, propagation
//	generate       count, first, width, project: many alike, {n} in id, number and names
//	metadata       project, serviceAccount: the account of /computeMetadata/v1
//	roles          further roles and their permissions
//	services       further services that exist
//	latencies      read, iamWrite, createAccount, batchEnable, oauth, operation
//	propagation    project, account, group, removal (of grants), accountRead, accountReadCode,
//	               accountMember, enabledApi, orgPolicy, projectList
//	pages          size, short
//	faults         see Fault
//	quotas, conditionsHold, exclusiveOperations, accountLimit
//
// Durations are strings such as "80ms"; grants and operations may take "never".
//
// # Administration
//
// JSON under /admin/, for all that reach the listener:
//
//	GET    /admin/health
//	GET    /admin/scenario               as it is now
//	PUT    /admin/scenario               load; all state begins anew
//	POST   /admin/reset                  begin anew
//	GET    /admin/faults
//	POST   /admin/faults                 add one Fault
//	DELETE /admin/faults
//	PUT    /admin/latencies              {"latencies": {}, "propagation": {}}, what is given changes
//	GET    /admin/calls                  Counts; ?detail=true adds the calls, but for the first ones with &skip=N
//	DELETE /admin/calls
//	GET    /admin/log                    the calls as text, a line each (see Call.String)
//	GET    /admin/snapshot               Snapshot
//	GET    /admin/diff                   {"changes": []}: what has changed since the beginning (see Diff)
//	POST   /admin/diff                   a Snapshot of before: what has changed since then
//	POST   /admin/keys/rotate            sign ID tokens with a new key
//	POST   /admin/users/EMAIL/revoke     all that the user granted
//	POST   /admin/users/EMAIL/rapt       refreshes fail with invalid_rapt
//	POST   /admin/users/EMAIL/restore    refreshes succeed again
//	POST   /admin/tokens                 {"email": "", "scopes": []}: an access token
package google
