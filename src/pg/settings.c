/*
 * settings.c
 *	  The extension's configuration parameters (smartbox_anomaly.*).
 *
 * Everything that decides where the server connects to is for superusers
 * only: whoever sets the endpoint makes the server send requests there.
 */
#include "postgres.h"

#include "nodes/pg_list.h"
#include "pgtime.h"
#include "utils/guc.h"
#include "utils/varlena.h"

#include "pg/settings.h"

#define MINUTES_OF_DAY (24 * 60)
#define LONGEST_RETENTION_MIN (36500 * MINUTES_OF_DAY)

int			sba_circuit_breaker_failures = 5;
int			sba_circuit_breaker_timeout_ms = 300 * 1000;
char	   *sba_databases = NULL;
bool		sba_delivery_enabled = true;
int			sba_delivery_timeout_ms = 10000;
int			sba_detections_retention_min = 30 * MINUTES_OF_DAY;
char	   *sba_environment = NULL;
char	   *sba_extra_selector = NULL;
int			sba_incidents_retention_min = 180 * MINUTES_OF_DAY;
int			sba_max_response_size_kb = 64 * 1024;
int			sba_max_workers = 2;
int			sba_model_cache_size_kb = 64 * 1024;
int			sba_model_versions_kept = 5;
char	   *sba_rate_window = NULL;
int			sba_sample_interval_s = 300;
int			sba_samples_retention_min = 60 * MINUTES_OF_DAY;
char	   *sba_service_label = NULL;
char	   *sba_time_zone = NULL;
int			sba_training_runs_retention_min = 180 * MINUTES_OF_DAY;
char	   *sba_vm_bearer_token_file = NULL;
char	   *sba_vm_ca_file = NULL;
char	   *sba_vm_certificate_file = NULL;
int			sba_vm_connect_timeout_ms = 3000;
char	   *sba_vm_endpoint = NULL;
char	   *sba_vm_key_file = NULL;
int			sba_vm_max_retries = 3;
char	   *sba_vm_password_file = NULL;
char	   *sba_vm_proxy = NULL;
int			sba_vm_timeout_ms = 10000;
int			sba_vm_total_timeout_ms = 20000;
char	   *sba_vm_user = NULL;
char	   *sba_write_back_endpoint = NULL;

/*
 * Check an address for what every address must not have.  One with a password
 * is refused in words that do not repeat it, as the usual ones would.
 */
static bool
check_address(const char *value, const char *setting, const char *hint)
{
	const char *host = strstr(value, "://");

	host = host == NULL ? value : host + 3;
	if (memchr(host, '@', strcspn(host, "/?#")) != NULL)
	{
		GUC_check_errcode(ERRCODE_INVALID_PARAMETER_VALUE);
		GUC_check_errmsg("the address in parameter \"%s\" must not contain a user name or password",
						 setting);
		GUC_check_errhint("%s", hint);
		return false;
	}
	if (strpbrk(value, " \t\r\n?#") != NULL)
	{
		GUC_check_errdetail("The address must not contain white space, \"?\" or \"#\".");
		GUC_check_errhint("Give the base address only, for example \"http://127.0.0.1:8428\".");
		return false;
	}
	return true;
}

static bool
check_endpoint(const char *value, const char *setting)
{
	if (value == NULL || value[0] == '\0')
		return true;
	if (!check_address(value, setting,
					   "Set smartbox_anomaly.vm_user, and smartbox_anomaly.vm_password_file to a file with the password."))
		return false;
	if (pg_strncasecmp(value, "http://", 7) == 0 ||
		pg_strncasecmp(value, "https://", 8) == 0)
		return true;
	GUC_check_errdetail("The endpoint must begin with \"http://\" or \"https://\".");
	return false;
}

static bool
check_vm_endpoint(char **newval, void **extra, GucSource source)
{
	return check_endpoint(*newval, "smartbox_anomaly.vm_endpoint");
}

static bool
check_write_back_endpoint(char **newval, void **extra, GucSource source)
{
	return check_endpoint(*newval, "smartbox_anomaly.write_back_endpoint");
}

static bool
check_vm_proxy(char **newval, void **extra, GucSource source)
{
	const char *value = *newval;

	if (value == NULL || value[0] == '\0')
		return true;
	if (!check_address(value, "smartbox_anomaly.vm_proxy",
					   "Proxies that ask for a password are not supported."))
		return false;
	if (pg_strncasecmp(value, "http://", 7) == 0 ||
		pg_strncasecmp(value, "https://", 8) == 0 ||
		pg_strncasecmp(value, "socks5h://", 10) == 0)
		return true;
	GUC_check_errdetail("The proxy must begin with \"http://\", \"https://\" or \"socks5h://\".");
	return false;
}

/*
 * In HTTP's basic authentication a colon ends the name.  What follows may be
 * a password, so the message does not repeat it.
 */
static bool
check_vm_user(char **newval, void **extra, GucSource source)
{
	const char *c;

	for (c = *newval; c != NULL && *c != '\0'; c++)
	{
		if (*c == ':' || (unsigned char) *c < 0x20 || *c == 0x7F)
		{
			GUC_check_errcode(ERRCODE_INVALID_PARAMETER_VALUE);
			GUC_check_errmsg("the name in parameter \"%s\" must not contain colons or control characters",
							 "smartbox_anomaly.vm_user");
			GUC_check_errhint("The password belongs into the file that smartbox_anomaly.vm_password_file names.");
			return false;
		}
	}
	return true;
}

static bool
check_time_zone(char **newval, void **extra, GucSource source)
{
	if (*newval == NULL || (*newval)[0] == '\0' || pg_tzset(*newval) == NULL)
	{
		GUC_check_errdetail("The time zone is not known to the server.");
		GUC_check_errhint("See the view pg_timezone_names.");
		return false;
	}
	return true;
}

static bool
check_databases(char **newval, void **extra, GucSource source)
{
	char	   *text = pstrdup(*newval == NULL ? "" : *newval);
	List	   *names;
	bool		is_list = SplitIdentifierString(text, ',', &names);

	list_free(names);
	pfree(text);
	if (!is_list)
		GUC_check_errdetail("It must be a list of names, with commas between them.");
	return is_list;
}

/* A PromQL label name. */
static bool
check_service_label(char **newval, void **extra, GucSource source)
{
	const char *c = *newval;

	if (c != NULL && (*c == '_' || isalpha((unsigned char) *c)))
	{
		while (*c == '_' || isalnum((unsigned char) *c))
			c++;
		if (*c == '\0')
			return true;
	}
	GUC_check_errdetail("A label name consists of letters, digits and underscores and does not begin with a digit.");
	return false;
}

/* A PromQL duration of one unit, as in 5m. */
static bool
check_rate_window(char **newval, void **extra, GucSource source)
{
	const char *c = *newval;
	int			n_digits = 0;

	while (c != NULL && isdigit((unsigned char) *c))
	{
		c++;
		n_digits++;
	}
	if (n_digits > 0 && (strcmp(c, "s") == 0 || strcmp(c, "m") == 0 || strcmp(c, "h") == 0))
		return true;
	GUC_check_errdetail("The window is a number with one of the units s, m and h, for example \"5m\".");
	return false;
}

/* Less than a day would be a mistake: of the unit, most likely. */
static bool
check_retention(int *newval, void **extra, GucSource source)
{
	if (*newval == 0 || *newval >= MINUTES_OF_DAY)
		return true;
	GUC_check_errdetail("Nothing is deleted that is younger than a day.");
	GUC_check_errhint("Give at least \"1d\", or 0 to keep everything for ever.");
	return false;
}

/* Define all parameters, in alphabetical order. */
void
sba_define_settings(void)
{
	DefineCustomIntVariable("smartbox_anomaly.circuit_breaker_failures",
							"After how many failed calls in a row an endpoint is left alone.",
							NULL,
							&sba_circuit_breaker_failures, 5, 1, 1000,
							PGC_SUSET, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("smartbox_anomaly.circuit_breaker_timeout",
							"For how long an endpoint is left alone before it is asked again.",
							NULL,
							&sba_circuit_breaker_timeout_ms, 300 * 1000, 100, 24 * 3600 * 1000,
							PGC_SUSET, GUC_UNIT_MS, NULL, NULL, NULL);
	DefineCustomStringVariable("smartbox_anomaly.databases",
							   "Databases in which background workers run the jobs of smartbox.jobs.",
							   "A list of names; the library must be in shared_preload_libraries.",
							   &sba_databases, "",
							   PGC_SIGHUP, GUC_LIST_INPUT, check_databases, NULL, NULL);
	DefineCustomBoolVariable("smartbox_anomaly.deliver_alerts",
							 "Whether databases that are armed send alerts.",
							 "To be switched off where a copy of the whole server is started: the copy is armed as the original is.",
							 &sba_delivery_enabled, true,
							 PGC_SUSET, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("smartbox_anomaly.delivery_timeout",
							"Longest time to wait for the answer of a receiver of alerts.",
							NULL,
							&sba_delivery_timeout_ms, 10000, 1, 60000,
							PGC_SUSET, GUC_UNIT_MS, NULL, NULL, NULL);
	DefineCustomIntVariable("smartbox_anomaly.detections_retention",
							"For how long detections are kept.",
							"By apply_retention(), in whole days; 0 keeps them for ever.",
							&sba_detections_retention_min, 30 * MINUTES_OF_DAY, 0, LONGEST_RETENTION_MIN,
							PGC_SUSET, GUC_UNIT_MIN, check_retention, NULL, NULL);
	DefineCustomStringVariable("smartbox_anomaly.environment",
							   "Regular expression for the deployment environment that is watched.",
							   "Matched against the label deployment_environment_name; empty matches every environment.",
							   &sba_environment, "production",
							   PGC_SUSET, 0, NULL, NULL, NULL);
	DefineCustomStringVariable("smartbox_anomaly.extra_selector",
							   "Further PromQL label matchers for every query.",
							   "For example: cluster=\"eu-1\"",
							   &sba_extra_selector, "",
							   PGC_SUSET, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("smartbox_anomaly.incidents_retention",
							"For how long closed incidents are kept, with their events and alerts.",
							"By apply_retention(), in whole days; 0 keeps them for ever.",
							&sba_incidents_retention_min, 180 * MINUTES_OF_DAY, 0, LONGEST_RETENTION_MIN,
							PGC_SUSET, GUC_UNIT_MIN, check_retention, NULL, NULL);
	DefineCustomIntVariable("smartbox_anomaly.max_response_size",
							"Largest answer that is accepted from the metric source.",
							"Larger ones are an error; range queries are cut so that they stay below.",
							&sba_max_response_size_kb, 64 * 1024, 64, 1024 * 1024,
							PGC_SUSET, GUC_UNIT_KB, NULL, NULL, NULL);
	DefineCustomIntVariable("smartbox_anomaly.max_workers",
							"Background workers that one statement may use, for example to train a fleet.",
							"They are taken from max_worker_processes.  With 0, or when none is free, the session does the work itself.",
							&sba_max_workers, 2, 0, 64,
							PGC_USERSET, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("smartbox_anomaly.model_cache_size",
							"Memory that a session may use to keep models.",
							NULL,
							&sba_model_cache_size_kb, 64 * 1024, 1024, 4 * 1024 * 1024,
							PGC_USERSET, GUC_UNIT_KB, NULL, NULL, NULL);
	DefineCustomIntVariable("smartbox_anomaly.model_versions_kept",
							"How many versions of each model are kept.",
							"The active one is kept whatever its age, and so is the one that rollback_model() goes to.",
							&sba_model_versions_kept, 5, 1, 1000,
							PGC_SUSET, 0, NULL, NULL, NULL);
	DefineCustomStringVariable("smartbox_anomaly.rate_window",
							   "Window of the rates in the metrics' queries, a PromQL duration.",
							   NULL,
							   &sba_rate_window, "5m",
							   PGC_SUSET, 0, check_rate_window, NULL, NULL);
	DefineCustomIntVariable("smartbox_anomaly.sample_interval",
							"Time between two samples of a service.",
							NULL,
							&sba_sample_interval_s, 300, 10, 3600,
							PGC_SUSET, GUC_UNIT_S, NULL, NULL, NULL);
	DefineCustomIntVariable("smartbox_anomaly.samples_retention",
							"For how long samples are kept.",
							"By apply_retention(), in whole days; 0 keeps them for ever.",
							&sba_samples_retention_min, 60 * MINUTES_OF_DAY, 0, LONGEST_RETENTION_MIN,
							PGC_SUSET, GUC_UNIT_MIN, check_retention, NULL, NULL);
	DefineCustomStringVariable("smartbox_anomaly.service_label",
							   "Label that holds the name of the service.",
							   NULL,
							   &sba_service_label, "service_name",
							   PGC_SUSET, 0, check_service_label, NULL, NULL);
	DefineCustomStringVariable("smartbox_anomaly.time_zone",
							   "Time zone of services that have none of their own.",
							   "It decides which part of the week an instant belongs to.",
							   &sba_time_zone, "UTC",
							   PGC_USERSET, 0, check_time_zone, NULL, NULL);
	DefineCustomIntVariable("smartbox_anomaly.training_runs_retention",
							"For how long the history of trainings is kept.",
							"By apply_retention(), in whole days; 0 keeps them for ever.",
							&sba_training_runs_retention_min, 180 * MINUTES_OF_DAY, 0, LONGEST_RETENTION_MIN,
							PGC_SUSET, GUC_UNIT_MIN, check_retention, NULL, NULL);
	DefineCustomStringVariable("smartbox_anomaly.vm_bearer_token_file",
							   "File with the bearer token that is sent to the metric source.",
							   "It is read for each call and must not be readable by others.",
							   &sba_vm_bearer_token_file, "",
							   PGC_SUSET, GUC_SUPERUSER_ONLY, NULL, NULL, NULL);
	DefineCustomStringVariable("smartbox_anomaly.vm_ca_file",
							   "File with the certificate authorities that the metric source's certificate is verified with.",
							   "Empty means those of the system.",
							   &sba_vm_ca_file, "",
							   PGC_SUSET, GUC_SUPERUSER_ONLY, NULL, NULL, NULL);
	DefineCustomStringVariable("smartbox_anomaly.vm_certificate_file",
							   "File with the certificate that is shown to the metric source.",
							   NULL,
							   &sba_vm_certificate_file, "",
							   PGC_SUSET, GUC_SUPERUSER_ONLY, NULL, NULL, NULL);
	DefineCustomIntVariable("smartbox_anomaly.vm_connect_timeout",
							"Longest time to wait for a connection to the metric source.",
							NULL,
							&sba_vm_connect_timeout_ms, 3000, 1, 600000,
							PGC_SUSET, GUC_UNIT_MS, NULL, NULL, NULL);
	DefineCustomStringVariable("smartbox_anomaly.vm_endpoint",
							   "Base address of VictoriaMetrics, or of another server with the Prometheus HTTP API.",
							   "Empty means that the extension does not use the network.",
							   &sba_vm_endpoint, "",
							   PGC_SUSET, GUC_SUPERUSER_ONLY, check_vm_endpoint, NULL, NULL);
	DefineCustomStringVariable("smartbox_anomaly.vm_key_file",
							   "File with the key of the certificate that is shown to the metric source.",
							   "Empty means that the key is in the file of the certificate.  It must not be readable by others.",
							   &sba_vm_key_file, "",
							   PGC_SUSET, GUC_SUPERUSER_ONLY, NULL, NULL, NULL);
	DefineCustomIntVariable("smartbox_anomaly.vm_max_retries",
							"How often a failed request to the metric source is sent again.",
							NULL,
							&sba_vm_max_retries, 3, 0, 10,
							PGC_SUSET, 0, NULL, NULL, NULL);
	DefineCustomStringVariable("smartbox_anomaly.vm_password_file",
							   "File with the password of the user that the metric source knows.",
							   "It is read for each call and must not be readable by others.",
							   &sba_vm_password_file, "",
							   PGC_SUSET, GUC_SUPERUSER_ONLY, NULL, NULL, NULL);
	DefineCustomStringVariable("smartbox_anomaly.vm_proxy",
							   "Address of a proxy on the way to the metric source.",
							   "Empty means none, whatever the server's environment says.",
							   &sba_vm_proxy, "",
							   PGC_SUSET, GUC_SUPERUSER_ONLY, check_vm_proxy, NULL, NULL);
	DefineCustomIntVariable("smartbox_anomaly.vm_timeout",
							"Longest time to wait for an answer of the metric source.",
							"It holds for each attempt.",
							&sba_vm_timeout_ms, 10000, 1, 600000,
							PGC_SUSET, GUC_UNIT_MS, NULL, NULL, NULL);
	DefineCustomIntVariable("smartbox_anomaly.vm_total_timeout",
							"Longest time to wait for an answer of the metric source with all retries.",
							"A first attempt may take smartbox_anomaly.vm_timeout in any case.",
							&sba_vm_total_timeout_ms, 20000, 1, 3600000,
							PGC_SUSET, GUC_UNIT_MS, NULL, NULL, NULL);
	DefineCustomStringVariable("smartbox_anomaly.vm_user",
							   "User that the metric source knows, for HTTP basic authentication.",
							   NULL,
							   &sba_vm_user, "",
							   PGC_SUSET, GUC_SUPERUSER_ONLY, check_vm_user, NULL, NULL);
	DefineCustomStringVariable("smartbox_anomaly.write_back_endpoint",
							   "Base address of a VictoriaMetrics to which scores and bands are written as series.",
							   "Empty means that none are.  The settings for the metric source hold for it too.",
							   &sba_write_back_endpoint, "",
							   PGC_SUSET, GUC_SUPERUSER_ONLY, check_write_back_endpoint, NULL, NULL);

	MarkGUCPrefixReserved("smartbox_anomaly");
}

bool
sba_has_source(void)
{
	return sba_vm_endpoint != NULL && sba_vm_endpoint[0] != '\0';
}
