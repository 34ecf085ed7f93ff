/*
 * http_endpoint.c
 *	  A server that requests go to, and how the session proves who it is.
 *
 * Whatever libcurl would take from the environment or from files of its own
 * (proxy, netrc, cookies) is off, and an answer decides nothing about where
 * the server connects to.
 */
#include "postgres.h"

#include "net/http_endpoint.h"
#include "pg/secret_file.h"

static bool
is_set(const char *text)
{
	return text != NULL && text[0] != '\0';
}

static bool
refuse(SbaProblem *problem, const char *message, const char *hint)
{
	problem->sqlstate = ERRCODE_CONFIG_FILE_ERROR;
	problem->message = pstrdup(message);
	problem->detail = NULL;
	problem->hint = pstrdup(hint);
	return false;
}

/* Whether the settings contradict each other, or a key lies open. */
static bool
check_endpoint(const SbaHttpEndpoint *endpoint, SbaProblem *problem)
{
	if (is_set(endpoint->bearer_token_file) && is_set(endpoint->user))
		return refuse(problem, "both a bearer token and a user are configured for the metric source",
					  "Set either smartbox_anomaly.vm_bearer_token_file, or smartbox_anomaly.vm_user and smartbox_anomaly.vm_password_file.");
	if (is_set(endpoint->user) != is_set(endpoint->password_file))
		return refuse(problem, "a user for the metric source takes a password file, and a password file a user",
					  "Set smartbox_anomaly.vm_user and smartbox_anomaly.vm_password_file, or neither.");
	if (is_set(endpoint->key_file) && !is_set(endpoint->certificate_file))
		return refuse(problem, "a key is configured for the metric source, but no certificate",
					  "Set smartbox_anomaly.vm_certificate_file, too.");
	if (is_set(endpoint->key_file))
		return sba_check_secret_file(endpoint->key_file, "smartbox_anomaly.vm_key_file", problem);
	if (is_set(endpoint->certificate_file))
		return sba_check_secret_file(endpoint->certificate_file,
									 "smartbox_anomaly.vm_certificate_file", problem);
	return true;
}

bool
sba_http_access_open(SbaHttpAccess *access, const SbaHttpEndpoint *endpoint,
					 SbaProblem *problem)
{
	memset(access, 0, sizeof(SbaHttpAccess));
	memset(problem, 0, sizeof(SbaProblem));
	access->endpoint = endpoint;
	if (!check_endpoint(endpoint, problem))
		return false;
	if (is_set(endpoint->bearer_token_file))
	{
		access->bearer_token = sba_read_secret(endpoint->bearer_token_file,
											   "smartbox_anomaly.vm_bearer_token_file", problem);
		return access->bearer_token != NULL;
	}
	if (is_set(endpoint->password_file))
	{
		access->password = sba_read_secret(endpoint->password_file,
										   "smartbox_anomaly.vm_password_file", problem);
		return access->password != NULL;
	}
	return true;
}

void
sba_http_access_close(SbaHttpAccess *access)
{
	sba_forget_secret(access->bearer_token);
	sba_forget_secret(access->password);
	access->bearer_token = NULL;
	access->password = NULL;
}

void
sba_http_access_apply(const SbaHttpAccess *access, CURL *easy)
{
	const SbaHttpEndpoint *endpoint = access->endpoint;

#if LIBCURL_VERSION_NUM >= 0x075500
	SBA_SET_OPTION(easy, CURLOPT_PROTOCOLS_STR, "http,https");
#else
	SBA_SET_OPTION(easy, CURLOPT_PROTOCOLS, (long) (CURLPROTO_HTTP | CURLPROTO_HTTPS));
#endif
	SBA_SET_OPTION(easy, CURLOPT_FOLLOWLOCATION, 0L);
	SBA_SET_OPTION(easy, CURLOPT_PROXY, is_set(endpoint->proxy) ? endpoint->proxy : "");
	SBA_SET_OPTION(easy, CURLOPT_NOPROXY, "");
	SBA_SET_OPTION(easy, CURLOPT_NETRC, (long) CURL_NETRC_IGNORED);

	SBA_SET_OPTION(easy, CURLOPT_SSL_VERIFYPEER, 1L);
	SBA_SET_OPTION(easy, CURLOPT_SSL_VERIFYHOST, 2L);
	SBA_SET_OPTION(easy, CURLOPT_SSLVERSION, (long) CURL_SSLVERSION_TLSv1_2);
	if (is_set(endpoint->ca_file))
	{
		SBA_SET_OPTION(easy, CURLOPT_CAINFO, endpoint->ca_file);
		SBA_SET_OPTION(easy, CURLOPT_CAPATH, NULL);
#if LIBCURL_VERSION_NUM >= 0x075700
		/* a file that is changed counts from the next connection on */
		SBA_SET_OPTION(easy, CURLOPT_CA_CACHE_TIMEOUT, 0L);
#endif
	}
	if (is_set(endpoint->certificate_file))
	{
		SBA_SET_OPTION(easy, CURLOPT_SSLCERT, endpoint->certificate_file);
		SBA_SET_OPTION(easy, CURLOPT_SSLKEY,
					   is_set(endpoint->key_file) ? endpoint->key_file : endpoint->certificate_file);
		/* nobody can be asked for the key's passphrase */
		SBA_SET_OPTION(easy, CURLOPT_KEYPASSWD, "");
	}

	if (access->bearer_token != NULL)
	{
		SBA_SET_OPTION(easy, CURLOPT_HTTPAUTH, (long) CURLAUTH_BEARER);
		SBA_SET_OPTION(easy, CURLOPT_XOAUTH2_BEARER, access->bearer_token);
	}
	else if (access->password != NULL)
	{
		SBA_SET_OPTION(easy, CURLOPT_HTTPAUTH, (long) CURLAUTH_BASIC);
		SBA_SET_OPTION(easy, CURLOPT_USERNAME, endpoint->user);
		SBA_SET_OPTION(easy, CURLOPT_PASSWORD, access->password);
	}
}
