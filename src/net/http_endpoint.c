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
refuse(SbaProblem *problem, char *message, char *hint)
{
	problem->sqlstate = ERRCODE_CONFIG_FILE_ERROR;
	problem->message = message;
	problem->detail = NULL;
	problem->hint = hint;
	return false;
}

/* The name of one of an endpoint's settings. */
static const char *
setting(const SbaHttpEndpoint *endpoint, const char *name)
{
	return psprintf("%s%s", endpoint->settings, name);
}

/* Whether the settings contradict each other, or a key lies open. */
static bool
check_endpoint(const SbaHttpEndpoint *endpoint, SbaProblem *problem)
{
	if (is_set(endpoint->bearer_token_file) && is_set(endpoint->user))
		return refuse(problem,
					  psprintf("both a bearer token and a user are configured for %s", endpoint->what),
					  psprintf("Set either %sbearer_token_file, or %suser and %spassword_file.",
							   endpoint->settings, endpoint->settings, endpoint->settings));
	if (is_set(endpoint->user) != is_set(endpoint->password_file))
		return refuse(problem,
					  psprintf("a user for %s takes a password file, and a password file a user", endpoint->what),
					  psprintf("Set %suser and %spassword_file, or neither.",
							   endpoint->settings, endpoint->settings));
	if (is_set(endpoint->key_file) && !is_set(endpoint->certificate_file))
		return refuse(problem,
					  psprintf("a key is configured for %s, but no certificate", endpoint->what),
					  psprintf("Set %scertificate_file, too.", endpoint->settings));
	if (is_set(endpoint->key_file))
		return sba_check_secret_file(endpoint->key_file, setting(endpoint, "key_file"), problem);
	if (is_set(endpoint->certificate_file))
		return sba_check_secret_file(endpoint->certificate_file,
									 setting(endpoint, "certificate_file"), problem);
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
											   setting(endpoint, "bearer_token_file"), problem);
		return access->bearer_token != NULL;
	}
	if (is_set(endpoint->password_file))
	{
		access->password = sba_read_secret(endpoint->password_file,
										   setting(endpoint, "password_file"), problem);
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
