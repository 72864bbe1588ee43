// The words of the console: what the connector's values mean to people.

/** Google's page that lists who has access to an account. */
export const GOOGLE_CONNECTIONS = 'https://myaccount.google.com/connections';
const ADMIN_CONSOLE = 'https://admin.google.com/ac/owl';

/**
 * How a login ends: the values of ?login=, each with what happened and what to
 * do next. The texts are those of the connector's README.
 */
export const LOGINS = {
  gcp_setup_pending: {
    tone: 'info', title: 'Setup has begun',
    text: 'Google Cloud is being set up. This takes some minutes; you may close this page.',
  },
  gcp_confirm: {
    tone: 'info', title: 'Was it you?',
    text: 'You have consented at Google. Confirm here that it was you: until then nothing is connected or changed, and after 10 minutes the consent is given back.',
  },
  gcp_denied: {
    tone: 'warn', title: 'You did not allow access', next: 'Connect again',
    text: 'You did not allow Aurora to access Google Cloud. Nothing was changed. Connect again if you did not mean to refuse.',
  },
  gcp_admin_policy: {
    tone: 'danger', title: 'Your administrator does not allow Aurora', next: 'Connect with another account',
    text: 'The administrator of this Google account does not allow Aurora. Ask them to trust it in the Google Admin console (Security, API controls), or connect with another account.',
    link: {href: ADMIN_CONSOLE, text: 'Google Admin console'},
  },
  gcp_scope_missing: {
    tone: 'warn', title: 'A permission was left unticked', next: 'Connect again',
    text: "Aurora needs every permission on Google's page, and one was left unticked. Connect again and tick all of them.",
  },
  gcp_expired: {
    tone: 'warn', title: 'This login has expired', next: 'Connect again',
    text: 'This login was not finished within 10 minutes, or was finished before. Connect again.',
  },
  gcp_other_browser: {
    tone: 'danger', title: 'This login was begun elsewhere', next: 'Connect in this browser',
    text: 'This login was begun in another browser, so nothing was connected. If somebody sent you the link, do not use it. Otherwise connect again, in this browser and with cookies allowed.',
  },
  gcp_failed: {
    tone: 'danger', title: 'Google Cloud was not connected', next: 'Connect again',
    text: 'Google Cloud could not be connected. Connect again in some minutes.',
  },
};

/** What a login that ends otherwise is told with. */
export const otherLogin = value => ({...LOGINS.gcp_failed, text: `The login ended with ${value}. Connect again.`});

/** What Aurora asks for on Google's page, and why. */
export const SCOPES = [
  {scope: 'https://www.googleapis.com/auth/cloud-platform', name: 'Your Google Cloud projects', why: 'Full GCP access: to enable APIs, to make two service accounts and to give them their roles. After the setup Aurora works as those accounts, not as you.'},
  {scope: 'https://www.googleapis.com/auth/userinfo.email', name: 'Your email address', why: 'To show you which Google account is connected.'},
  {scope: 'openid', name: 'Who you are', why: "So that nobody else's consent can be taken for yours."},
];

/** The steps of a setup, in order, under the names that the status gives them. */
export const STEPS = {
  'validate-projects': {name: 'Find projects', what: 'Lists your projects, reads their billing and chooses the root project.'},
  'enable-apis': {name: 'Enable APIs', what: 'Starts to enable what is missing of 25 required APIs.'},
  'create-service-accounts': {name: 'Create service accounts', what: 'Two in the root project: one that manages, one that only reads.'},
  'grant-access': {name: 'Grant access', what: 'Gives the two accounts their roles in every project.'},
  'update-org-policies': {name: 'Update organization policies', what: 'Allows public Cloud Run services, where you may decide that.'},
  'verify-permissions': {name: 'Verify permissions', what: 'Asks Google in each project whether everything is in force.'},
  'discover-resources': {name: 'Start discovery', what: 'Begins to look for clusters, services, databases and the rest.'},
};

export const REMOVAL_STEPS = {
  'remove-access': {name: 'Undo changes', what: 'Takes back roles, restores policies, deletes the service accounts.'},
};

/** What a phase came to in a project: a word and how it is to be seen. */
export const OUTCOMES = {
  pending: {text: 'Not yet', tone: 'idle'},
  started: {text: 'Under way', tone: 'busy'},
  changed: {text: 'Done', tone: 'ok'},
  unchanged: {text: 'In place', tone: 'ok'},
  forbidden: {text: 'Not permitted', tone: 'warn'},
  failed: {text: 'Failed', tone: 'danger'},
  not_applicable: {text: 'Left alone', tone: 'idle'},
};

/** What helps when a step fails in a project, as the product's documentation has it. */
export const REMEDIES = {
  'validate-projects': ['Link a billing account to the project under Billing in the Google Cloud console.', 'Verify that billing is active, then retry.'],
  'enable-apis': ['Verify that you have the role Service Usage Admin.', "Check the project's quotas and limits.", 'Enable the APIs by hand in the Google Cloud console if needed.', 'Wait a few minutes, then retry.'],
  'create-service-accounts': ['Verify that you have the roles Service Account Admin and Project IAM Admin.', 'Ensure that service accounts can be created in the root project, or choose another one.'],
  'grant-access': ['Verify that you have the role Owner or Project IAM Admin on the project.', "Review Google Cloud's audit logs for details."],
  'update-org-policies': ['Check whether your organization has strict domain policies.', 'Ask for the role Organization Policy Administrator.', 'The constraint iam.allowedPolicyMemberDomains may have to be updated by hand.'],
  'verify-permissions': ['IAM permissions can take up to 10 minutes to propagate: retry then.', "If it stays, check the service accounts' IAM bindings.", 'Organization policies may block access of service accounts.'],
  'remove-access': ['Remove what is listed by hand in the Google Cloud console.', 'Or connect again, then disconnect with cleanup.'],
};

/** Kinds of changes: in a plan, in the ledger, and when they are undone. */
export const CHANGES = {
  create_account: {one: 'service account', many: 'service accounts', plan: 'Create', did: 'Created service account', undo: 'Delete', undid: 'Deleted'},
  enable_account: {one: 'service account', many: 'service accounts', plan: 'Enable', did: 'Enabled service account', undo: 'Disable again', undid: 'Disabled again'},
  add_binding: {one: 'role', many: 'roles', plan: 'Grant', did: 'Granted', undo: 'Take back', undid: 'Took back'},
  remove_binding: {one: 'role', many: 'roles', plan: 'Take back', did: 'Took back'},
  set_org_policy: {one: 'organization policy', many: 'organization policies', plan: 'Change', did: 'Changed organization policy', undo: 'Restore', undid: 'Restored'},
  enable_api: {one: 'API', many: 'APIs', plan: 'Enable', did: 'Enabled API', undo: 'Disable', undid: 'Disabled'},
};

/** How far a change of the ledger has come. */
export const CHANGE_STATES = {
  planned: {text: 'Unconfirmed', tone: 'warn', title: 'It may or may not have happened: the answer was lost.'},
  done: {text: 'Done', tone: 'ok'},
  undone: {text: 'Undone', tone: 'idle'},
  refused: {text: 'Refused', tone: 'danger', title: 'Google said no: it did not happen.'},
};

const TYPES = {
  gke_cluster: 'GKE cluster', cloud_run_service: 'Cloud Run service', compute_instance: 'VM instance',
  instance_group: 'Instance group', storage_bucket: 'Storage bucket', cloud_function: 'Cloud Function',
  bigquery_dataset: 'BigQuery dataset', bigquery_table: 'BigQuery table', cloud_sql_instance: 'Cloud SQL instance',
  vpc_network: 'VPC network', vpc_subnetwork: 'VPC subnetwork', service_account: 'Service account',
  'cloudresourcemanager.googleapis.com/Project': 'Project',
};

/** The name of a type of resources, of one or of many; of one that Aurora does not know, Google's own. */
export function typeName(type, many) {
  if (TYPES[type]) return TYPES[type] + (many ? 's' : '');
  const [service, kind] = type.split('/');
  return kind ? `${kind} (${service.replace('.googleapis.com', '')})` : type;
}

/** What Aurora can discover and manage. */
export const MANAGED = ['GKE clusters', 'Cloud Run services', 'Compute Engine', 'Cloud Storage', 'Cloud Functions', 'BigQuery', 'Cloud SQL', 'VPC networks', 'IAM', 'Billing'];

export const NEEDS_REAUTH = 'No refresh token available. Please re-authenticate.';

const plurals = new Intl.PluralRules('en');
const numbers = new Intl.NumberFormat('en');

/** "1 project", "12 projects". */
export const count = (n, one, many = one + 's') => `${numbers.format(n)} ${plurals.select(n) === 'one' ? one : many}`;
export const number = n => numbers.format(n);

/** A length of time as people say it: 0.4 s, 12 s, 1 min 05 s. */
export function duration(ms) {
  if (ms < 100) return '< 0.1 s';
  if (ms < 9950) return (ms / 1000).toFixed(1) + ' s';
  const seconds = Math.round(ms / 1000);
  if (seconds < 60) return seconds + ' s';
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${String(seconds % 60).padStart(2, '0')} s`;
  return `${Math.floor(seconds / 3600)} h ${String(Math.floor(seconds / 60) % 60).padStart(2, '0')} min`;
}

const times = new Intl.DateTimeFormat(undefined, {dateStyle: 'medium', timeStyle: 'short'});
export const time = at => at ? times.format(new Date(at)) : '';

/** Who a member or an account is: one of Aurora's two of a root project, as the connector names them, or somebody by email. */
export function who(member) {
  const email = member.replace(/^(user|serviceAccount):/, '');
  const [, kind, root] = email.match(/^aurora-[0-9a-f]+-([fr])@([^.]+)/) ?? [];
  return kind ? `Aurora’s ${kind === 'f' ? 'managing' : 'reading'} account (${root})` : email;
}
export const shortAPI = name => name.replace('.googleapis.com', '');
export const shortRole = role => role.replace(/^roles\//, '');
