/*
 * settings.h
 *	  The extension's configuration parameters (smartbox_anomaly.*).
 */
#ifndef SBA_PG_SETTINGS_H
#define SBA_PG_SETTINGS_H

extern int	sba_circuit_breaker_failures;
extern int	sba_circuit_breaker_timeout_ms;
extern char *sba_databases;		/* a list of names */
extern bool sba_delivery_enabled;	/* false: nothing is sent to receivers */
extern int	sba_delivery_timeout_ms;
extern int	sba_detections_retention_min;	/* 0, as of all of these: for ever */
extern char *sba_environment;	/* value regex of deployment_environment_name */
extern char *sba_extra_selector;	/* further PromQL label matchers, or "" */
extern int	sba_incidents_retention_min;
extern int	sba_max_response_size_kb;
extern int	sba_max_workers;
extern int	sba_model_cache_size_kb;
extern int	sba_model_versions_kept;
extern char *sba_rate_window;	/* PromQL duration, "5m" */
extern int	sba_sample_interval_s;
extern int	sba_samples_retention_min;
extern char *sba_service_label;
extern char *sba_time_zone;
extern int	sba_training_runs_retention_min;
extern char *sba_vm_bearer_token_file;
extern char *sba_vm_ca_file;
extern char *sba_vm_certificate_file;
extern int	sba_vm_connect_timeout_ms;
extern char *sba_vm_endpoint;	/* "" means: no network */
extern char *sba_vm_key_file;
extern int	sba_vm_max_retries;
extern char *sba_vm_password_file;
extern char *sba_vm_proxy;
extern int	sba_vm_timeout_ms;
extern int	sba_vm_total_timeout_ms;
extern char *sba_vm_user;
extern char *sba_write_back_endpoint;	/* "" means: nothing is written */

extern void sba_define_settings(void);

/* Whether the settings name a metric source. */
extern bool sba_has_source(void);

#endif							/* SBA_PG_SETTINGS_H */
