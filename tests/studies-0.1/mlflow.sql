BEGIN TRANSACTION;
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('dc11669786a5');
CREATE TABLE "assessments" (
	assessment_id VARCHAR(50) NOT NULL, 
	trace_id VARCHAR(50) NOT NULL, 
	name VARCHAR(250) NOT NULL, 
	assessment_type VARCHAR(20) NOT NULL, 
	value TEXT NOT NULL, 
	error TEXT, 
	created_timestamp BIGINT NOT NULL, 
	last_updated_timestamp BIGINT NOT NULL, 
	source_type VARCHAR(50) NOT NULL, 
	source_id VARCHAR(250), 
	run_id VARCHAR(32), 
	span_id VARCHAR(50), 
	rationale TEXT, 
	overrides VARCHAR(50), 
	valid BOOLEAN NOT NULL, 
	assessment_metadata TEXT, 
	experiment_id INTEGER, 
	trace_timestamp_ms BIGINT, 
	aggregate_value FLOAT, 
	is_numeric_value BOOLEAN DEFAULT 0 NOT NULL, 
	CONSTRAINT assessments_pk PRIMARY KEY (assessment_id), 
	CONSTRAINT fk_assessments_trace_id FOREIGN KEY(trace_id) REFERENCES trace_info (request_id) ON DELETE CASCADE
);
CREATE TABLE budget_policies (
	budget_policy_id VARCHAR(36) NOT NULL, 
	budget_unit VARCHAR(32) NOT NULL, 
	budget_amount FLOAT NOT NULL, 
	duration_unit VARCHAR(32) NOT NULL, 
	duration_value INTEGER NOT NULL, 
	target_scope VARCHAR(32) NOT NULL, 
	budget_action VARCHAR(32) NOT NULL, 
	created_by VARCHAR(255), 
	created_at BIGINT NOT NULL, 
	last_updated_by VARCHAR(255), 
	last_updated_at BIGINT NOT NULL, 
	workspace VARCHAR(63) DEFAULT 'default' NOT NULL, target_value VARCHAR(255), 
	CONSTRAINT budget_policies_pk PRIMARY KEY (budget_policy_id)
);
CREATE TABLE "datasets" (
	dataset_uuid VARCHAR(36) NOT NULL, 
	experiment_id INTEGER NOT NULL, 
	name VARCHAR(500) NOT NULL, 
	digest VARCHAR(36) NOT NULL, 
	dataset_source_type VARCHAR(36) NOT NULL, 
	dataset_source TEXT NOT NULL, 
	dataset_schema TEXT, 
	dataset_profile TEXT, 
	CONSTRAINT dataset_pk PRIMARY KEY (experiment_id, name, digest), 
	CONSTRAINT fk_datasets_experiment_id_experiments FOREIGN KEY(experiment_id) REFERENCES experiments (experiment_id) ON DELETE CASCADE
);
CREATE TABLE endpoint_bindings (
	endpoint_id VARCHAR(36) NOT NULL, 
	resource_type VARCHAR(50) NOT NULL, 
	resource_id VARCHAR(255) NOT NULL, 
	created_at BIGINT NOT NULL, 
	created_by VARCHAR(255), 
	last_updated_at BIGINT NOT NULL, 
	last_updated_by VARCHAR(255), display_name VARCHAR(255), 
	CONSTRAINT endpoint_bindings_pk PRIMARY KEY (endpoint_id, resource_type, resource_id), 
	CONSTRAINT fk_endpoint_bindings_endpoint_id FOREIGN KEY(endpoint_id) REFERENCES endpoints (endpoint_id) ON DELETE CASCADE
);
CREATE TABLE endpoint_model_mappings (
	mapping_id VARCHAR(36) NOT NULL, 
	endpoint_id VARCHAR(36) NOT NULL, 
	model_definition_id VARCHAR(36) NOT NULL, 
	weight FLOAT NOT NULL, 
	created_by VARCHAR(255), 
	created_at BIGINT NOT NULL, linkage_type VARCHAR(64) DEFAULT 'PRIMARY' NOT NULL, fallback_order INTEGER, 
	CONSTRAINT endpoint_model_mappings_pk PRIMARY KEY (mapping_id), 
	CONSTRAINT fk_endpoint_model_mappings_endpoint_id FOREIGN KEY(endpoint_id) REFERENCES endpoints (endpoint_id) ON DELETE CASCADE, 
	CONSTRAINT fk_endpoint_model_mappings_model_definition_id FOREIGN KEY(model_definition_id) REFERENCES model_definitions (model_definition_id)
);
CREATE TABLE endpoint_tags (
	"key" VARCHAR(250) NOT NULL, 
	value VARCHAR(5000), 
	endpoint_id VARCHAR(36) NOT NULL, 
	CONSTRAINT endpoint_tag_pk PRIMARY KEY ("key", endpoint_id), 
	CONSTRAINT fk_endpoint_tags_endpoint_id FOREIGN KEY(endpoint_id) REFERENCES endpoints (endpoint_id) ON DELETE CASCADE
);
CREATE TABLE "endpoints" (
	endpoint_id VARCHAR(36) NOT NULL, 
	name VARCHAR(255), 
	created_by VARCHAR(255), 
	created_at BIGINT NOT NULL, 
	last_updated_by VARCHAR(255), 
	last_updated_at BIGINT NOT NULL, 
	routing_strategy VARCHAR(64), 
	fallback_config_json TEXT, 
	experiment_id INTEGER, 
	usage_tracking BOOLEAN DEFAULT '0' NOT NULL, 
	workspace VARCHAR(63) DEFAULT 'default' NOT NULL, 
	CONSTRAINT endpoints_pk PRIMARY KEY (endpoint_id), 
	CONSTRAINT fk_endpoints_experiment_id FOREIGN KEY(experiment_id) REFERENCES experiments (experiment_id) ON DELETE SET NULL, 
	CONSTRAINT uq_endpoints_workspace_name UNIQUE (workspace, name)
);
CREATE TABLE entity_associations (
	association_id VARCHAR(36) NOT NULL, 
	source_type VARCHAR(36) NOT NULL, 
	source_id VARCHAR(36) NOT NULL, 
	destination_type VARCHAR(36) NOT NULL, 
	destination_id VARCHAR(36) NOT NULL, 
	created_time BIGINT, 
	CONSTRAINT entity_associations_pk PRIMARY KEY (source_type, source_id, destination_type, destination_id)
);
CREATE TABLE "evaluation_dataset_records" (
	dataset_record_id VARCHAR(36) NOT NULL, 
	dataset_id VARCHAR(36) NOT NULL, 
	inputs JSON NOT NULL, 
	expectations JSON, 
	tags JSON, 
	source JSON, 
	source_id VARCHAR(36), 
	source_type VARCHAR(255), 
	created_time BIGINT, 
	last_update_time BIGINT, 
	created_by VARCHAR(255), 
	last_updated_by VARCHAR(255), 
	input_hash VARCHAR(64) NOT NULL, outputs JSON, 
	CONSTRAINT evaluation_dataset_records_pk PRIMARY KEY (dataset_record_id), 
	CONSTRAINT fk_evaluation_dataset_records_dataset_id FOREIGN KEY(dataset_id) REFERENCES evaluation_datasets (dataset_id) ON DELETE CASCADE, 
	CONSTRAINT unique_dataset_input UNIQUE (dataset_id, input_hash)
);
CREATE TABLE evaluation_dataset_tags (
	dataset_id VARCHAR(36) NOT NULL, 
	"key" VARCHAR(255) NOT NULL, 
	value VARCHAR(5000), 
	CONSTRAINT evaluation_dataset_tags_pk PRIMARY KEY (dataset_id, "key"), 
	CONSTRAINT fk_evaluation_dataset_tags_dataset_id FOREIGN KEY(dataset_id) REFERENCES evaluation_datasets (dataset_id) ON DELETE CASCADE
);
CREATE TABLE "evaluation_datasets" (
	dataset_id VARCHAR(36) NOT NULL, 
	name VARCHAR(255) NOT NULL, 
	schema TEXT, 
	profile TEXT, 
	digest VARCHAR(64), 
	created_time BIGINT, 
	last_update_time BIGINT, 
	created_by VARCHAR(255), 
	last_updated_by VARCHAR(255), 
	workspace VARCHAR(63) DEFAULT 'default' NOT NULL, 
	CONSTRAINT evaluation_datasets_pk PRIMARY KEY (dataset_id)
);
CREATE TABLE "experiment_tags" (
	"key" VARCHAR(250) NOT NULL, 
	value TEXT, 
	experiment_id INTEGER NOT NULL, 
	CONSTRAINT experiment_tag_pk PRIMARY KEY ("key", experiment_id), 
	FOREIGN KEY(experiment_id) REFERENCES experiments (experiment_id)
);
INSERT INTO "experiment_tags" VALUES('mlflow.sharedViewState.16ae89b8e6084e63','{"name": "digits", "createdAt": 1795576471701, "updatedAt": 1795576471701, "state": "deflate;eJzNVk1v2zAM/SuGL71sRdpjgR3SIO2CJW2ReF2BoUhVmbWFyZIhyWm8ov99pPydpOuAYcBuySP5SD6SSl5CC8zw9EJIByY8C0LHEntstITgU3DkjGDyKGAqDjxuXRGXZIhFIpw9Cj8EoTYxmPPyC5QUngHGcHv88AjWrTdMrhnnhWG8fOg5jy1H5ycmLSBoHTMuEhkQwXg+J0cpnoCXXEJX2Zg7sQEyxswxC862tu/3iGY6BnkLxgqtelFSBstCWYqzIIE7iCdaFhlCGPhewa35bYsPhFzzdIhb4FrF1oM5MyxDTOrkZLSWZgiyEqseQJnOQLkiG4CMBGAO2xvAOnciEz9hSPrIHE/XFnEP+/E9WKfztQFmiYI0416Ja5pKI2MFfROxS0mhl1fEDAr4WcQxqAWKTLJezJaraH06Wi+/Xq1CH5ZhakCpJymO04v7EhaFiMmdqpISpC+lzD3FzXiJw576cVOCiS6Ui/SkIkKPk9GoN7Qb35ifWaOiXxQvnhe+1ow+d1L5rWsUoi+dMF6Bhn5Rjc3z761C5ZnqZ9wmv0xngTMFtNNeIQXmmvle/dH4inAfAal7qy7sJSgwrIeivp1OmG4Dtq/SfHY1fVOhUxIoFjZHFa5YdUCDutsK6/PcNQ67R6dKgL3epVCwyrR2qQJLPpR4O94Ku+JMQlQXS27Mq2wPw4apBJqt8vF1YdZB3i/ojmyLfulkLXsRVV8tOt3mBkvDKdhmk0WitIHrwklBK9JNobBwKfUjk3es5avn2ZrmbcdCJf9s3iiTw4fqY3+jm8mvJuMomi7fOY8ttUCKhj8qXQ5R0aktQtK83HXf3/Ve3GIaLWcTH/ivGm/P92/b3iP6P5q+H7yNNdXO69hxqvqIoy5Ldd3dBgq7BP8zOkj958VsBDwvUBB6EPv+KPZcWFc98wOeMeeYEMs+lJgOxugih/iWyQLsrHv/64JTEcM0y125a0go7pxaU4WUDUCXjH84fBL/TCTtPXqCiVZPIvHTPPSAHHypfvOqvL7+AqXS/+s="}',1);
CREATE TABLE "experiments" (
	experiment_id INTEGER NOT NULL, 
	name VARCHAR(256) NOT NULL, 
	artifact_location VARCHAR(256), 
	lifecycle_stage VARCHAR(32), 
	creation_time BIGINT, 
	last_update_time BIGINT, 
	workspace VARCHAR(63) DEFAULT 'default' NOT NULL, 
	CONSTRAINT experiment_pk PRIMARY KEY (experiment_id), 
	CONSTRAINT experiments_lifecycle_stage CHECK (lifecycle_stage IN ('active', 'deleted')), 
	CONSTRAINT uq_experiments_workspace_name UNIQUE (workspace, name)
);
INSERT INTO "experiments" VALUES(0,'Default','/home/ada/work/mlruns/0','active',1795576463563,1795576463563,'default');
INSERT INTO "experiments" VALUES(1,'mlp-digits','file://{STUDIES}/artifacts','active',1795576471597,1795576471597,'default');
CREATE TABLE guardrail_configs (
	endpoint_id VARCHAR(36) NOT NULL, 
	guardrail_id VARCHAR(36) NOT NULL, 
	execution_order INTEGER, 
	created_by VARCHAR(255), 
	created_at BIGINT NOT NULL, 
	workspace VARCHAR(63) DEFAULT 'default' NOT NULL, 
	CONSTRAINT guardrail_configs_pk PRIMARY KEY (endpoint_id, guardrail_id), 
	CONSTRAINT fk_guardrail_configs_endpoint_id FOREIGN KEY(endpoint_id) REFERENCES endpoints (endpoint_id) ON DELETE CASCADE, 
	CONSTRAINT fk_guardrail_configs_guardrail_id FOREIGN KEY(guardrail_id) REFERENCES guardrails (guardrail_id) ON DELETE CASCADE
);
CREATE TABLE guardrails (
	guardrail_id VARCHAR(36) NOT NULL, 
	name VARCHAR(255) NOT NULL, 
	scorer_id VARCHAR(36) NOT NULL, 
	scorer_version INTEGER NOT NULL, 
	stage VARCHAR(32) NOT NULL, 
	action VARCHAR(32) NOT NULL, 
	action_endpoint_id VARCHAR(36), 
	created_by VARCHAR(255), 
	created_at BIGINT NOT NULL, 
	last_updated_by VARCHAR(255), 
	last_updated_at BIGINT NOT NULL, 
	workspace VARCHAR(63) DEFAULT 'default' NOT NULL, 
	CONSTRAINT guardrails_pk PRIMARY KEY (guardrail_id), 
	CONSTRAINT fk_guardrails_scorer_version FOREIGN KEY(scorer_id, scorer_version) REFERENCES scorer_versions (scorer_id, scorer_version), 
	CONSTRAINT fk_guardrails_action_endpoint_id FOREIGN KEY(action_endpoint_id) REFERENCES endpoints (endpoint_id) ON DELETE SET NULL
);
CREATE TABLE input_tags (
	input_uuid VARCHAR(36) NOT NULL, 
	name VARCHAR(255) NOT NULL, 
	value VARCHAR(500) NOT NULL, 
	CONSTRAINT input_tags_pk PRIMARY KEY (input_uuid, name)
);
CREATE TABLE inputs (
	input_uuid VARCHAR(36) NOT NULL, 
	source_type VARCHAR(36) NOT NULL, 
	source_id VARCHAR(36) NOT NULL, 
	destination_type VARCHAR(36) NOT NULL, 
	destination_id VARCHAR(36) NOT NULL, step BIGINT DEFAULT '0' NOT NULL, 
	CONSTRAINT inputs_pk PRIMARY KEY (source_type, source_id, destination_type, destination_id)
);
INSERT INTO "inputs" VALUES('05e36812351543739ee6431d31e06f53','RUN_OUTPUT','b2c18c4d477649788304b596c9a5c6ea','MODEL_OUTPUT','m-85deeccf21bd4f1cb404ebaed2e73a3c',0);
CREATE TABLE issues (
	issue_id VARCHAR(36) NOT NULL, 
	experiment_id INTEGER NOT NULL, 
	name VARCHAR(250) NOT NULL, 
	description TEXT NOT NULL, 
	status VARCHAR(50) NOT NULL, 
	severity VARCHAR(50), 
	root_causes TEXT, 
	source_run_id VARCHAR(32), 
	categories TEXT, 
	created_timestamp BIGINT NOT NULL, 
	last_updated_timestamp BIGINT NOT NULL, 
	created_by VARCHAR(255), 
	CONSTRAINT issues_pk PRIMARY KEY (issue_id), 
	CONSTRAINT fk_issues_experiment_id FOREIGN KEY(experiment_id) REFERENCES experiments (experiment_id) ON DELETE CASCADE, 
	CONSTRAINT fk_issues_source_run_id FOREIGN KEY(source_run_id) REFERENCES runs (run_uuid) ON DELETE SET NULL
);
CREATE TABLE job_locks (
	lock_key VARCHAR(255) NOT NULL, 
	job_id VARCHAR(36) NOT NULL, 
	acquired_at BIGINT NOT NULL, 
	CONSTRAINT job_locks_pk PRIMARY KEY (lock_key), 
	CONSTRAINT fk_job_locks_job_id FOREIGN KEY(job_id) REFERENCES jobs (id) ON DELETE CASCADE
);
CREATE TABLE "jobs" (
	id VARCHAR(36) NOT NULL, 
	creation_time BIGINT NOT NULL, 
	job_name VARCHAR(500) NOT NULL, 
	params TEXT NOT NULL, 
	timeout FLOAT, 
	status INTEGER NOT NULL, 
	result TEXT, 
	retry_count INTEGER NOT NULL, 
	last_update_time BIGINT NOT NULL, 
	workspace VARCHAR(63) DEFAULT 'default' NOT NULL, status_details JSON, creator VARCHAR(255), executor_backend VARCHAR(255), lease_expires_at BIGINT, status_message TEXT, progress JSON, progress_updated_at BIGINT, token_hash VARCHAR(64), scoped_permissions JSON, next_attempt_at BIGINT, 
	CONSTRAINT jobs_pk PRIMARY KEY (id)
);
CREATE TABLE label_schemas (
	schema_id VARCHAR(36) NOT NULL, 
	experiment_id INTEGER NOT NULL, 
	name VARCHAR(250) NOT NULL, 
	type VARCHAR(16) NOT NULL, 
	instruction TEXT, 
	enable_comment BOOLEAN DEFAULT '0' NOT NULL, 
	input_type VARCHAR(32) NOT NULL, 
	input_config TEXT NOT NULL, 
	created_by VARCHAR(255), 
	created_time BIGINT NOT NULL, 
	last_update_time BIGINT NOT NULL, 
	is_default BOOLEAN DEFAULT 0 NOT NULL, 
	CONSTRAINT label_schemas_pk PRIMARY KEY (schema_id), 
	CONSTRAINT fk_label_schemas_experiment_id FOREIGN KEY(experiment_id) REFERENCES experiments (experiment_id) ON DELETE CASCADE, 
	CONSTRAINT uq_label_schemas_exp_name UNIQUE (experiment_id, name)
);
CREATE TABLE "latest_metrics" (
	"key" VARCHAR(250) NOT NULL, 
	value FLOAT NOT NULL, 
	timestamp BIGINT, 
	step BIGINT NOT NULL, 
	is_nan BOOLEAN NOT NULL, 
	run_uuid VARCHAR(32) NOT NULL, 
	CONSTRAINT latest_metric_pk PRIMARY KEY ("key", run_uuid), 
	FOREIGN KEY(run_uuid) REFERENCES runs (run_uuid), 
	CHECK (is_nan IN (0, 1))
);
INSERT INTO "latest_metrics" VALUES('trials',6.0,1795576486993,0,0,'67c9e321a5bb40739eca02519f532712');
INSERT INTO "latest_metrics" VALUES('train_loss',1.82693529924388164964e+00,1795576478687,4,0,'1e0124e2cf324ac9ae86d22d905de99c');
INSERT INTO "latest_metrics" VALUES('train_accuracy',5.13899920571882495856e-01,1795576478687,4,0,'1e0124e2cf324ac9ae86d22d905de99c');
INSERT INTO "latest_metrics" VALUES('val_loss',1.7764292436904622896e+00,1795576478687,4,0,'1e0124e2cf324ac9ae86d22d905de99c');
INSERT INTO "latest_metrics" VALUES('val_accuracy',5.35315985130111471335e-01,1795576478687,4,0,'1e0124e2cf324ac9ae86d22d905de99c');
INSERT INTO "latest_metrics" VALUES('best_val_accuracy',5.35315985130111471335e-01,1795576478692,0,0,'1e0124e2cf324ac9ae86d22d905de99c');
INSERT INTO "latest_metrics" VALUES('best_epoch',4.0,1795576478692,0,0,'1e0124e2cf324ac9ae86d22d905de99c');
INSERT INTO "latest_metrics" VALUES('seconds',2.23929003799457859713e+00,1795576478692,0,0,'1e0124e2cf324ac9ae86d22d905de99c');
INSERT INTO "latest_metrics" VALUES('train_loss',2.37901057697081030894e+00,1795576478561,1,0,'a2d849e9605340e0a9f5d8db4bea78e3');
INSERT INTO "latest_metrics" VALUES('train_accuracy',1.02462271644162036809e-01,1795576478561,1,0,'a2d849e9605340e0a9f5d8db4bea78e3');
INSERT INTO "latest_metrics" VALUES('val_loss',2.39561082350720244704e+00,1795576478561,1,0,'a2d849e9605340e0a9f5d8db4bea78e3');
INSERT INTO "latest_metrics" VALUES('val_accuracy',1.11524163568773232446e-01,1795576478561,1,0,'a2d849e9605340e0a9f5d8db4bea78e3');
INSERT INTO "latest_metrics" VALUES('train_loss',2.23532025713689552759e+00,1795576478661,2,0,'277ed218c2e4459eb2a11935ebf90838');
INSERT INTO "latest_metrics" VALUES('train_accuracy',1.59650516282764109998e-01,1795576478661,2,0,'277ed218c2e4459eb2a11935ebf90838');
INSERT INTO "latest_metrics" VALUES('val_loss',2.22452496950511147133e+00,1795576478661,2,0,'277ed218c2e4459eb2a11935ebf90838');
INSERT INTO "latest_metrics" VALUES('val_accuracy',1.59851301115241622996e-01,1795576478661,2,0,'277ed218c2e4459eb2a11935ebf90838');
INSERT INTO "latest_metrics" VALUES('train_loss',2.39408773917636752415e+00,1795576478640,1,0,'b88c441c840f4faa92322520a46ff55a');
INSERT INTO "latest_metrics" VALUES('train_accuracy',0.0778395552025417,1795576478640,1,0,'b88c441c840f4faa92322520a46ff55a');
INSERT INTO "latest_metrics" VALUES('val_loss',2.33648432054484178621e+00,1795576478640,1,0,'b88c441c840f4faa92322520a46ff55a');
INSERT INTO "latest_metrics" VALUES('val_accuracy',1.18959107806691444242e-01,1795576478640,1,0,'b88c441c840f4faa92322520a46ff55a');
INSERT INTO "latest_metrics" VALUES('train_loss',8.09746873293536562066e-01,1795576478781,4,0,'b2c18c4d477649788304b596c9a5c6ea');
INSERT INTO "latest_metrics" VALUES('train_accuracy',6.95790309769658499305e-01,1795576478781,4,0,'b2c18c4d477649788304b596c9a5c6ea');
INSERT INTO "latest_metrics" VALUES('val_loss',0.804820177723484,1795576478781,4,0,'b2c18c4d477649788304b596c9a5c6ea');
INSERT INTO "latest_metrics" VALUES('val_accuracy',6.91449814126394057822e-01,1795576478781,4,0,'b2c18c4d477649788304b596c9a5c6ea');
INSERT INTO "latest_metrics" VALUES('best_val_accuracy',6.91449814126394057822e-01,1795576478786,0,0,'b2c18c4d477649788304b596c9a5c6ea');
INSERT INTO "latest_metrics" VALUES('best_epoch',4.0,1795576478786,0,0,'b2c18c4d477649788304b596c9a5c6ea');
INSERT INTO "latest_metrics" VALUES('seconds',0.046667823995449,1795576478786,0,0,'b2c18c4d477649788304b596c9a5c6ea');
INSERT INTO "latest_metrics" VALUES('best_val_accuracy',6.91449814126394057822e-01,1795576486993,0,0,'67c9e321a5bb40739eca02519f532712');
INSERT INTO "latest_metrics" VALUES('train_loss',1.97138938873509172999e+00,1795576479246,2,0,'1c354245898746329feeb4e95ea235b0');
INSERT INTO "latest_metrics" VALUES('train_accuracy',2.38284352660841941551e-01,1795576479246,2,0,'1c354245898746329feeb4e95ea235b0');
INSERT INTO "latest_metrics" VALUES('val_loss',1.79843491337999528134e+00,1795576479246,2,0,'1c354245898746329feeb4e95ea235b0');
INSERT INTO "latest_metrics" VALUES('val_accuracy',2.78810408921933094994e-01,1795576479246,2,0,'1c354245898746329feeb4e95ea235b0');
INSERT INTO "latest_metrics" VALUES('best_val_accuracy',2.78810408921933094994e-01,1795576479247,0,0,'1c354245898746329feeb4e95ea235b0');
INSERT INTO "latest_metrics" VALUES('best_epoch',2.0,1795576479247,0,0,'1c354245898746329feeb4e95ea235b0');
INSERT INTO "latest_metrics" VALUES('seconds',1.72923250000167172402e+00,1795576479247,0,0,'1c354245898746329feeb4e95ea235b0');
INSERT INTO "latest_metrics" VALUES('best_val_accuracy',1.11524163568773232446e-01,1795576479255,0,0,'a2d849e9605340e0a9f5d8db4bea78e3');
INSERT INTO "latest_metrics" VALUES('best_epoch',1.0,1795576479255,0,0,'a2d849e9605340e0a9f5d8db4bea78e3');
INSERT INTO "latest_metrics" VALUES('seconds',9.07435199951578397303e-03,1795576479255,0,0,'a2d849e9605340e0a9f5d8db4bea78e3');
INSERT INTO "latest_metrics" VALUES('best_val_accuracy',1.59851301115241622996e-01,1795576479255,0,0,'277ed218c2e4459eb2a11935ebf90838');
INSERT INTO "latest_metrics" VALUES('best_epoch',2.0,1795576479255,0,0,'277ed218c2e4459eb2a11935ebf90838');
INSERT INTO "latest_metrics" VALUES('seconds',1.94091869998374022543e-02,1795576479255,0,0,'277ed218c2e4459eb2a11935ebf90838');
INSERT INTO "latest_metrics" VALUES('best_val_accuracy',1.18959107806691444242e-01,1795576479256,0,0,'b88c441c840f4faa92322520a46ff55a');
INSERT INTO "latest_metrics" VALUES('best_epoch',1.0,1795576479256,0,0,'b88c441c840f4faa92322520a46ff55a');
INSERT INTO "latest_metrics" VALUES('seconds',9.20470100027159787714e-03,1795576479256,0,0,'b88c441c840f4faa92322520a46ff55a');
INSERT INTO "latest_metrics" VALUES('test_loss',7.75438273263243549315e-01,1795576482457,0,0,'67c9e321a5bb40739eca02519f532712');
INSERT INTO "latest_metrics" VALUES('test_accuracy',6.69144981412639450191e-01,1795576482457,0,0,'67c9e321a5bb40739eca02519f532712');
INSERT INTO "latest_metrics" VALUES('test_loss',7.75438273263243549315e-01,1795576482457,0,0,'b2c18c4d477649788304b596c9a5c6ea');
INSERT INTO "latest_metrics" VALUES('test_accuracy',6.69144981412639450191e-01,1795576482457,0,0,'b2c18c4d477649788304b596c9a5c6ea');
CREATE TABLE logged_model_metrics (
	model_id VARCHAR(36) NOT NULL, 
	metric_name VARCHAR(500) NOT NULL, 
	metric_timestamp_ms BIGINT NOT NULL, 
	metric_step BIGINT NOT NULL, 
	metric_value FLOAT, 
	experiment_id INTEGER NOT NULL, 
	run_id VARCHAR(32) NOT NULL, 
	dataset_uuid VARCHAR(36), 
	dataset_name VARCHAR(500), 
	dataset_digest VARCHAR(36), 
	CONSTRAINT logged_model_metrics_pk PRIMARY KEY (model_id, metric_name, metric_timestamp_ms, metric_step, run_id), 
	CONSTRAINT fk_logged_model_metrics_experiment_id FOREIGN KEY(experiment_id) REFERENCES experiments (experiment_id), 
	CONSTRAINT fk_logged_model_metrics_model_id FOREIGN KEY(model_id) REFERENCES logged_models (model_id) ON DELETE CASCADE, 
	CONSTRAINT fk_logged_model_metrics_run_id FOREIGN KEY(run_id) REFERENCES runs (run_uuid) ON DELETE CASCADE
);
INSERT INTO "logged_model_metrics" VALUES('m-85deeccf21bd4f1cb404ebaed2e73a3c','best_val_accuracy',1795576478786,0,6.91449814126394057822e-01,1,'b2c18c4d477649788304b596c9a5c6ea',NULL,NULL,NULL);
INSERT INTO "logged_model_metrics" VALUES('m-85deeccf21bd4f1cb404ebaed2e73a3c','best_epoch',1795576478786,0,4.0,1,'b2c18c4d477649788304b596c9a5c6ea',NULL,NULL,NULL);
INSERT INTO "logged_model_metrics" VALUES('m-85deeccf21bd4f1cb404ebaed2e73a3c','seconds',1795576478786,0,0.046667823995449,1,'b2c18c4d477649788304b596c9a5c6ea',NULL,NULL,NULL);
CREATE TABLE logged_model_params (
	model_id VARCHAR(36) NOT NULL, 
	experiment_id INTEGER NOT NULL, 
	param_key VARCHAR(255) NOT NULL, 
	param_value TEXT NOT NULL, 
	CONSTRAINT logged_model_params_pk PRIMARY KEY (model_id, param_key), 
	CONSTRAINT fk_logged_model_params_experiment_id FOREIGN KEY(experiment_id) REFERENCES experiments (experiment_id), 
	CONSTRAINT fk_logged_model_params_model_id FOREIGN KEY(model_id) REFERENCES logged_models (model_id) ON DELETE CASCADE
);
INSERT INTO "logged_model_params" VALUES('m-85deeccf21bd4f1cb404ebaed2e73a3c',1,'data','digits');
INSERT INTO "logged_model_params" VALUES('m-85deeccf21bd4f1cb404ebaed2e73a3c',1,'epochs','4');
INSERT INTO "logged_model_params" VALUES('m-85deeccf21bd4f1cb404ebaed2e73a3c',1,'layers','2');
INSERT INTO "logged_model_params" VALUES('m-85deeccf21bd4f1cb404ebaed2e73a3c',1,'units_0','4');
INSERT INTO "logged_model_params" VALUES('m-85deeccf21bd4f1cb404ebaed2e73a3c',1,'units_1','4');
INSERT INTO "logged_model_params" VALUES('m-85deeccf21bd4f1cb404ebaed2e73a3c',1,'activation','tanh');
INSERT INTO "logged_model_params" VALUES('m-85deeccf21bd4f1cb404ebaed2e73a3c',1,'optimizer','adam');
INSERT INTO "logged_model_params" VALUES('m-85deeccf21bd4f1cb404ebaed2e73a3c',1,'lr','0.0905942637698978');
INSERT INTO "logged_model_params" VALUES('m-85deeccf21bd4f1cb404ebaed2e73a3c',1,'batch_size','128');
INSERT INTO "logged_model_params" VALUES('m-85deeccf21bd4f1cb404ebaed2e73a3c',1,'log10_lr','-1.042899');
CREATE TABLE logged_model_tags (
	model_id VARCHAR(36) NOT NULL, 
	experiment_id INTEGER NOT NULL, 
	tag_key VARCHAR(255) NOT NULL, 
	tag_value TEXT NOT NULL, 
	CONSTRAINT logged_model_tags_pk PRIMARY KEY (model_id, tag_key), 
	CONSTRAINT fk_logged_model_tags_experiment_id FOREIGN KEY(experiment_id) REFERENCES experiments (experiment_id), 
	CONSTRAINT fk_logged_model_tags_model_id FOREIGN KEY(model_id) REFERENCES logged_models (model_id) ON DELETE CASCADE
);
INSERT INTO "logged_model_tags" VALUES('m-85deeccf21bd4f1cb404ebaed2e73a3c',1,'mlflow.user','root');
INSERT INTO "logged_model_tags" VALUES('m-85deeccf21bd4f1cb404ebaed2e73a3c',1,'mlflow.source.name','/home/ada/raysweep/platform/raysweep/publisher.py');
INSERT INTO "logged_model_tags" VALUES('m-85deeccf21bd4f1cb404ebaed2e73a3c',1,'mlflow.source.type','LOCAL');
INSERT INTO "logged_model_tags" VALUES('m-85deeccf21bd4f1cb404ebaed2e73a3c',1,'mlflow.source.git.commit','a2b045d9a381d4e4681f552aad12b097cf46300c');
INSERT INTO "logged_model_tags" VALUES('m-85deeccf21bd4f1cb404ebaed2e73a3c',1,'mlflow.source.git.repoURL','/home/ada/digits');
INSERT INTO "logged_model_tags" VALUES('m-85deeccf21bd4f1cb404ebaed2e73a3c',1,'mlflow.modelVersions','[{"name": "digits", "version": 1}]');
CREATE TABLE logged_models (
	model_id VARCHAR(36) NOT NULL, 
	experiment_id INTEGER NOT NULL, 
	name VARCHAR(500) NOT NULL, 
	artifact_location VARCHAR(1000) NOT NULL, 
	creation_timestamp_ms BIGINT NOT NULL, 
	last_updated_timestamp_ms BIGINT NOT NULL, 
	status INTEGER NOT NULL, 
	lifecycle_stage VARCHAR(32), 
	model_type VARCHAR(500), 
	source_run_id VARCHAR(32), 
	status_message VARCHAR(1000), 
	CONSTRAINT logged_models_pk PRIMARY KEY (model_id), 
	CONSTRAINT logged_models_lifecycle_stage_check CHECK (lifecycle_stage IN ('active', 'deleted')), 
	CONSTRAINT fk_logged_models_experiment_id FOREIGN KEY(experiment_id) REFERENCES experiments (experiment_id) ON DELETE CASCADE
);
INSERT INTO "logged_models" VALUES('m-85deeccf21bd4f1cb404ebaed2e73a3c',1,'model','file://{STUDIES}/artifacts/models/m-85deeccf21bd4f1cb404ebaed2e73a3c/artifacts',1795576483630,1795576485894,2,'active',NULL,'b2c18c4d477649788304b596c9a5c6ea',NULL);
CREATE TABLE mcp_access_endpoints (
	id VARCHAR(36) NOT NULL, 
	workspace VARCHAR(63) DEFAULT 'default' NOT NULL, 
	server_name VARCHAR(256) NOT NULL, 
	server_version VARCHAR(128), 
	server_alias VARCHAR(256), 
	url VARCHAR(2048) NOT NULL, 
	transport_type VARCHAR(32) DEFAULT 'streamable-http' NOT NULL, 
	created_by VARCHAR(256), 
	last_updated_by VARCHAR(256), 
	created_at BIGINT NOT NULL, 
	last_updated_at BIGINT NOT NULL, 
	CONSTRAINT mcp_access_endpoints_pk PRIMARY KEY (id), 
	CONSTRAINT mcp_access_endpoints_server_fkey FOREIGN KEY(workspace, server_name) REFERENCES mcp_servers (workspace, name) ON DELETE CASCADE ON UPDATE CASCADE
);
CREATE TABLE mcp_server_aliases (
	workspace VARCHAR(63) DEFAULT 'default' NOT NULL, 
	name VARCHAR(256) NOT NULL, 
	alias VARCHAR(256) NOT NULL, 
	version VARCHAR(128) NOT NULL, 
	CONSTRAINT mcp_server_aliases_pk PRIMARY KEY (workspace, name, alias), 
	CONSTRAINT mcp_server_aliases_server_fkey FOREIGN KEY(workspace, name) REFERENCES mcp_servers (workspace, name) ON DELETE CASCADE ON UPDATE CASCADE
);
CREATE TABLE mcp_server_tags (
	workspace VARCHAR(63) DEFAULT 'default' NOT NULL, 
	name VARCHAR(256) NOT NULL, 
	"key" VARCHAR(250) NOT NULL, 
	value VARCHAR(5000), 
	CONSTRAINT mcp_server_tags_pk PRIMARY KEY (workspace, name, "key"), 
	CONSTRAINT mcp_server_tags_server_fkey FOREIGN KEY(workspace, name) REFERENCES mcp_servers (workspace, name) ON DELETE CASCADE ON UPDATE CASCADE
);
CREATE TABLE mcp_server_version_tags (
	workspace VARCHAR(63) DEFAULT 'default' NOT NULL, 
	name VARCHAR(256) NOT NULL, 
	version VARCHAR(128) NOT NULL, 
	"key" VARCHAR(250) NOT NULL, 
	value VARCHAR(5000), 
	CONSTRAINT mcp_server_version_tags_pk PRIMARY KEY (workspace, name, version, "key"), 
	CONSTRAINT mcp_server_version_tags_version_fkey FOREIGN KEY(workspace, name, version) REFERENCES mcp_server_versions (workspace, name, version) ON DELETE CASCADE ON UPDATE CASCADE
);
CREATE TABLE mcp_server_versions (
	workspace VARCHAR(63) DEFAULT 'default' NOT NULL, 
	name VARCHAR(256) NOT NULL, 
	version VARCHAR(128) NOT NULL, 
	version_major INTEGER NOT NULL, 
	version_minor INTEGER NOT NULL, 
	version_patch INTEGER NOT NULL, 
	version_prerelease_sort_key VARCHAR(512) NOT NULL, 
	server_json JSON NOT NULL, 
	status VARCHAR(20) DEFAULT 'draft' NOT NULL, 
	tools JSON, 
	source VARCHAR(512), 
	connect_options JSON, 
	created_by VARCHAR(256), 
	last_updated_by VARCHAR(256), 
	created_at BIGINT NOT NULL, 
	last_updated_at BIGINT NOT NULL, 
	CONSTRAINT mcp_server_versions_pk PRIMARY KEY (workspace, name, version), 
	CONSTRAINT mcp_server_versions_server_fkey FOREIGN KEY(workspace, name) REFERENCES mcp_servers (workspace, name) ON DELETE CASCADE ON UPDATE CASCADE
);
CREATE TABLE mcp_servers (
	workspace VARCHAR(63) DEFAULT 'default' NOT NULL, 
	name VARCHAR(256) NOT NULL, 
	display_name VARCHAR(256), 
	description TEXT, 
	icons JSON, 
	created_by VARCHAR(256), 
	last_updated_by VARCHAR(256), 
	created_at BIGINT NOT NULL, 
	last_updated_at BIGINT NOT NULL, 
	CONSTRAINT mcp_servers_pk PRIMARY KEY (workspace, name)
);
CREATE TABLE "metrics" (
	"key" VARCHAR(250) NOT NULL, 
	value FLOAT NOT NULL, 
	timestamp BIGINT NOT NULL, 
	run_uuid VARCHAR(32) NOT NULL, 
	step BIGINT DEFAULT '0' NOT NULL, 
	is_nan BOOLEAN DEFAULT '0' NOT NULL, 
	CONSTRAINT metric_pk PRIMARY KEY ("key", timestamp, step, run_uuid, value, is_nan), 
	FOREIGN KEY(run_uuid) REFERENCES runs (run_uuid), 
	CHECK (is_nan IN (0, 1))
);
INSERT INTO "metrics" VALUES('trials',0.0,1795576471846,'67c9e321a5bb40739eca02519f532712',0,0);
INSERT INTO "metrics" VALUES('train_loss',2.2517973496101508779e+00,1795576478538,'1e0124e2cf324ac9ae86d22d905de99c',1,0);
INSERT INTO "metrics" VALUES('train_accuracy',1.01667990468625887845e-01,1795576478538,'1e0124e2cf324ac9ae86d22d905de99c',1,0);
INSERT INTO "metrics" VALUES('val_loss',2.16889358009990695919e+00,1795576478538,'1e0124e2cf324ac9ae86d22d905de99c',1,0);
INSERT INTO "metrics" VALUES('val_accuracy',1.41263940520446107385e-01,1795576478538,'1e0124e2cf324ac9ae86d22d905de99c',1,0);
INSERT INTO "metrics" VALUES('train_loss',2.09243021776412962964e+00,1795576478582,'1e0124e2cf324ac9ae86d22d905de99c',2,0);
INSERT INTO "metrics" VALUES('train_accuracy',2.38284352660841941551e-01,1795576478582,'1e0124e2cf324ac9ae86d22d905de99c',2,0);
INSERT INTO "metrics" VALUES('val_loss',2.03291247059421475995e+00,1795576478582,'1e0124e2cf324ac9ae86d22d905de99c',2,0);
INSERT INTO "metrics" VALUES('val_accuracy',3.01115241635687758137e-01,1795576478582,'1e0124e2cf324ac9ae86d22d905de99c',2,0);
INSERT INTO "metrics" VALUES('train_loss',1.95587001858106,1795576478680,'1e0124e2cf324ac9ae86d22d905de99c',3,0);
INSERT INTO "metrics" VALUES('train_accuracy',3.94757744241461483447e-01,1795576478680,'1e0124e2cf324ac9ae86d22d905de99c',3,0);
INSERT INTO "metrics" VALUES('val_loss',1.90017677505663340475e+00,1795576478680,'1e0124e2cf324ac9ae86d22d905de99c',3,0);
INSERT INTO "metrics" VALUES('val_accuracy',4.23791821561338266644e-01,1795576478680,'1e0124e2cf324ac9ae86d22d905de99c',3,0);
INSERT INTO "metrics" VALUES('train_loss',1.82693529924388164964e+00,1795576478687,'1e0124e2cf324ac9ae86d22d905de99c',4,0);
INSERT INTO "metrics" VALUES('train_accuracy',5.13899920571882495856e-01,1795576478687,'1e0124e2cf324ac9ae86d22d905de99c',4,0);
INSERT INTO "metrics" VALUES('val_loss',1.7764292436904622896e+00,1795576478687,'1e0124e2cf324ac9ae86d22d905de99c',4,0);
INSERT INTO "metrics" VALUES('val_accuracy',5.35315985130111471335e-01,1795576478687,'1e0124e2cf324ac9ae86d22d905de99c',4,0);
INSERT INTO "metrics" VALUES('best_val_accuracy',5.35315985130111471335e-01,1795576478692,'1e0124e2cf324ac9ae86d22d905de99c',0,0);
INSERT INTO "metrics" VALUES('best_epoch',4.0,1795576478692,'1e0124e2cf324ac9ae86d22d905de99c',0,0);
INSERT INTO "metrics" VALUES('seconds',2.23929003799457859713e+00,1795576478692,'1e0124e2cf324ac9ae86d22d905de99c',0,0);
INSERT INTO "metrics" VALUES('train_loss',2.37901057697081030894e+00,1795576478561,'a2d849e9605340e0a9f5d8db4bea78e3',1,0);
INSERT INTO "metrics" VALUES('train_accuracy',1.02462271644162036809e-01,1795576478561,'a2d849e9605340e0a9f5d8db4bea78e3',1,0);
INSERT INTO "metrics" VALUES('val_loss',2.39561082350720244704e+00,1795576478561,'a2d849e9605340e0a9f5d8db4bea78e3',1,0);
INSERT INTO "metrics" VALUES('val_accuracy',1.11524163568773232446e-01,1795576478561,'a2d849e9605340e0a9f5d8db4bea78e3',1,0);
INSERT INTO "metrics" VALUES('train_loss',2.27288811087513664688e+00,1795576478609,'277ed218c2e4459eb2a11935ebf90838',1,0);
INSERT INTO "metrics" VALUES('train_accuracy',1.23907863383637809051e-01,1795576478609,'277ed218c2e4459eb2a11935ebf90838',1,0);
INSERT INTO "metrics" VALUES('val_loss',2.26030949589045082603e+00,1795576478609,'277ed218c2e4459eb2a11935ebf90838',1,0);
INSERT INTO "metrics" VALUES('val_accuracy',1.30111524163568775813e-01,1795576478609,'277ed218c2e4459eb2a11935ebf90838',1,0);
INSERT INTO "metrics" VALUES('train_loss',2.23532025713689552759e+00,1795576478661,'277ed218c2e4459eb2a11935ebf90838',2,0);
INSERT INTO "metrics" VALUES('train_accuracy',1.59650516282764109998e-01,1795576478661,'277ed218c2e4459eb2a11935ebf90838',2,0);
INSERT INTO "metrics" VALUES('val_loss',2.22452496950511147133e+00,1795576478661,'277ed218c2e4459eb2a11935ebf90838',2,0);
INSERT INTO "metrics" VALUES('val_accuracy',1.59851301115241622996e-01,1795576478661,'277ed218c2e4459eb2a11935ebf90838',2,0);
INSERT INTO "metrics" VALUES('train_loss',2.39408773917636752415e+00,1795576478640,'b88c441c840f4faa92322520a46ff55a',1,0);
INSERT INTO "metrics" VALUES('train_accuracy',0.0778395552025417,1795576478640,'b88c441c840f4faa92322520a46ff55a',1,0);
INSERT INTO "metrics" VALUES('val_loss',2.33648432054484178621e+00,1795576478640,'b88c441c840f4faa92322520a46ff55a',1,0);
INSERT INTO "metrics" VALUES('val_accuracy',1.18959107806691444242e-01,1795576478640,'b88c441c840f4faa92322520a46ff55a',1,0);
INSERT INTO "metrics" VALUES('train_loss',2.13270191922843,1795576478720,'b2c18c4d477649788304b596c9a5c6ea',1,0);
INSERT INTO "metrics" VALUES('train_accuracy',2.48610007942811767067e-01,1795576478720,'b2c18c4d477649788304b596c9a5c6ea',1,0);
INSERT INTO "metrics" VALUES('val_loss',1.72556755888417745481e+00,1795576478720,'b2c18c4d477649788304b596c9a5c6ea',1,0);
INSERT INTO "metrics" VALUES('val_accuracy',4.16356877323420082603e-01,1795576478720,'b2c18c4d477649788304b596c9a5c6ea',1,0);
INSERT INTO "metrics" VALUES('train_loss',1.4031722452831798531e+00,1795576478746,'b2c18c4d477649788304b596c9a5c6ea',2,0);
INSERT INTO "metrics" VALUES('train_accuracy',0.545671167593328,1795576478746,'b2c18c4d477649788304b596c9a5c6ea',2,0);
INSERT INTO "metrics" VALUES('val_loss',1.1798716265029622896e+00,1795576478746,'b2c18c4d477649788304b596c9a5c6ea',2,0);
INSERT INTO "metrics" VALUES('val_accuracy',5.91078066914498156947e-01,1795576478746,'b2c18c4d477649788304b596c9a5c6ea',2,0);
INSERT INTO "metrics" VALUES('train_loss',1.01079591443559491104e+00,1795576478773,'b2c18c4d477649788304b596c9a5c6ea',3,0);
INSERT INTO "metrics" VALUES('train_accuracy',6.40984908657664775866e-01,1795576478773,'b2c18c4d477649788304b596c9a5c6ea',3,0);
INSERT INTO "metrics" VALUES('val_loss',9.10235436875580838922e-01,1795576478773,'b2c18c4d477649788304b596c9a5c6ea',3,0);
INSERT INTO "metrics" VALUES('val_accuracy',6.39405204460966491986e-01,1795576478773,'b2c18c4d477649788304b596c9a5c6ea',3,0);
INSERT INTO "metrics" VALUES('train_loss',8.09746873293536562066e-01,1795576478781,'b2c18c4d477649788304b596c9a5c6ea',4,0);
INSERT INTO "metrics" VALUES('train_accuracy',6.95790309769658499305e-01,1795576478781,'b2c18c4d477649788304b596c9a5c6ea',4,0);
INSERT INTO "metrics" VALUES('val_loss',0.804820177723484,1795576478781,'b2c18c4d477649788304b596c9a5c6ea',4,0);
INSERT INTO "metrics" VALUES('val_accuracy',6.91449814126394057822e-01,1795576478781,'b2c18c4d477649788304b596c9a5c6ea',4,0);
INSERT INTO "metrics" VALUES('best_val_accuracy',6.91449814126394057822e-01,1795576478786,'b2c18c4d477649788304b596c9a5c6ea',0,0);
INSERT INTO "metrics" VALUES('best_epoch',4.0,1795576478786,'b2c18c4d477649788304b596c9a5c6ea',0,0);
INSERT INTO "metrics" VALUES('seconds',0.046667823995449,1795576478786,'b2c18c4d477649788304b596c9a5c6ea',0,0);
INSERT INTO "metrics" VALUES('trials',2.0,1795576479059,'67c9e321a5bb40739eca02519f532712',0,0);
INSERT INTO "metrics" VALUES('best_val_accuracy',6.91449814126394057822e-01,1795576479059,'67c9e321a5bb40739eca02519f532712',0,0);
INSERT INTO "metrics" VALUES('train_loss',2.25166256566006,1795576479204,'1c354245898746329feeb4e95ea235b0',1,0);
INSERT INTO "metrics" VALUES('train_accuracy',1.77918983320095314137e-01,1795576479204,'1c354245898746329feeb4e95ea235b0',1,0);
INSERT INTO "metrics" VALUES('val_loss',2.14677593699175206509e+00,1795576479204,'1c354245898746329feeb4e95ea235b0',1,0);
INSERT INTO "metrics" VALUES('val_accuracy',1.9702602230483270973e-01,1795576479204,'1c354245898746329feeb4e95ea235b0',1,0);
INSERT INTO "metrics" VALUES('train_loss',1.97138938873509172999e+00,1795576479246,'1c354245898746329feeb4e95ea235b0',2,0);
INSERT INTO "metrics" VALUES('train_accuracy',2.38284352660841941551e-01,1795576479246,'1c354245898746329feeb4e95ea235b0',2,0);
INSERT INTO "metrics" VALUES('val_loss',1.79843491337999528134e+00,1795576479246,'1c354245898746329feeb4e95ea235b0',2,0);
INSERT INTO "metrics" VALUES('val_accuracy',2.78810408921933094994e-01,1795576479246,'1c354245898746329feeb4e95ea235b0',2,0);
INSERT INTO "metrics" VALUES('best_val_accuracy',2.78810408921933094994e-01,1795576479247,'1c354245898746329feeb4e95ea235b0',0,0);
INSERT INTO "metrics" VALUES('best_epoch',2.0,1795576479247,'1c354245898746329feeb4e95ea235b0',0,0);
INSERT INTO "metrics" VALUES('seconds',1.72923250000167172402e+00,1795576479247,'1c354245898746329feeb4e95ea235b0',0,0);
INSERT INTO "metrics" VALUES('best_val_accuracy',1.11524163568773232446e-01,1795576479255,'a2d849e9605340e0a9f5d8db4bea78e3',0,0);
INSERT INTO "metrics" VALUES('best_epoch',1.0,1795576479255,'a2d849e9605340e0a9f5d8db4bea78e3',0,0);
INSERT INTO "metrics" VALUES('seconds',9.07435199951578397303e-03,1795576479255,'a2d849e9605340e0a9f5d8db4bea78e3',0,0);
INSERT INTO "metrics" VALUES('best_val_accuracy',1.59851301115241622996e-01,1795576479255,'277ed218c2e4459eb2a11935ebf90838',0,0);
INSERT INTO "metrics" VALUES('best_epoch',2.0,1795576479255,'277ed218c2e4459eb2a11935ebf90838',0,0);
INSERT INTO "metrics" VALUES('seconds',1.94091869998374022543e-02,1795576479255,'277ed218c2e4459eb2a11935ebf90838',0,0);
INSERT INTO "metrics" VALUES('best_val_accuracy',1.18959107806691444242e-01,1795576479256,'b88c441c840f4faa92322520a46ff55a',0,0);
INSERT INTO "metrics" VALUES('best_epoch',1.0,1795576479256,'b88c441c840f4faa92322520a46ff55a',0,0);
INSERT INTO "metrics" VALUES('seconds',9.20470100027159787714e-03,1795576479256,'b88c441c840f4faa92322520a46ff55a',0,0);
INSERT INTO "metrics" VALUES('trials',6.0,1795576480373,'67c9e321a5bb40739eca02519f532712',0,0);
INSERT INTO "metrics" VALUES('best_val_accuracy',6.91449814126394057822e-01,1795576480373,'67c9e321a5bb40739eca02519f532712',0,0);
INSERT INTO "metrics" VALUES('trials',6.0,1795576483408,'67c9e321a5bb40739eca02519f532712',0,0);
INSERT INTO "metrics" VALUES('best_val_accuracy',6.91449814126394057822e-01,1795576483408,'67c9e321a5bb40739eca02519f532712',0,0);
INSERT INTO "metrics" VALUES('test_loss',7.75438273263243549315e-01,1795576482457,'67c9e321a5bb40739eca02519f532712',0,0);
INSERT INTO "metrics" VALUES('test_accuracy',6.69144981412639450191e-01,1795576482457,'67c9e321a5bb40739eca02519f532712',0,0);
INSERT INTO "metrics" VALUES('test_loss',7.75438273263243549315e-01,1795576482457,'b2c18c4d477649788304b596c9a5c6ea',0,0);
INSERT INTO "metrics" VALUES('test_accuracy',6.69144981412639450191e-01,1795576482457,'b2c18c4d477649788304b596c9a5c6ea',0,0);
INSERT INTO "metrics" VALUES('trials',6.0,1795576486993,'67c9e321a5bb40739eca02519f532712',0,0);
INSERT INTO "metrics" VALUES('best_val_accuracy',6.91449814126394057822e-01,1795576486993,'67c9e321a5bb40739eca02519f532712',0,0);
CREATE TABLE "model_definitions" (
	model_definition_id VARCHAR(36) NOT NULL, 
	name VARCHAR(255) NOT NULL, 
	secret_id VARCHAR(36), 
	provider VARCHAR(64) NOT NULL, 
	model_name VARCHAR(256) NOT NULL, 
	created_by VARCHAR(255), 
	created_at BIGINT NOT NULL, 
	last_updated_by VARCHAR(255), 
	last_updated_at BIGINT NOT NULL, 
	workspace VARCHAR(63) DEFAULT 'default' NOT NULL, 
	CONSTRAINT model_definitions_pk PRIMARY KEY (model_definition_id), 
	CONSTRAINT fk_model_definitions_secret_id FOREIGN KEY(secret_id) REFERENCES secrets (secret_id) ON DELETE SET NULL, 
	CONSTRAINT uq_model_definitions_workspace_name UNIQUE (workspace, name)
);
CREATE TABLE "model_version_tags" (
	"key" VARCHAR(250) NOT NULL, 
	value TEXT, 
	name VARCHAR(256) NOT NULL, 
	version INTEGER NOT NULL, 
	workspace VARCHAR(63) DEFAULT 'default' NOT NULL, 
	CONSTRAINT model_version_tag_pk PRIMARY KEY (workspace, "key", name, version), 
	CONSTRAINT fk_model_version_tags_model_versions FOREIGN KEY(workspace, name, version) REFERENCES model_versions (workspace, name, version) ON UPDATE CASCADE
);
INSERT INTO "model_version_tags" VALUES('raysweep','16ae89b8e6084e63a3bf73c1f42c807a/5/4','digits',1,'default');
INSERT INTO "model_version_tags" VALUES('study','digits','digits',1,'default');
INSERT INTO "model_version_tags" VALUES('trial','5','digits',1,'default');
INSERT INTO "model_version_tags" VALUES('run_id','b2c18c4d477649788304b596c9a5c6ea','digits',1,'default');
CREATE TABLE "model_versions" (
	name VARCHAR(256) NOT NULL, 
	version INTEGER NOT NULL, 
	creation_time BIGINT, 
	last_updated_time BIGINT, 
	description VARCHAR(5000), 
	user_id VARCHAR(256), 
	current_stage VARCHAR(20), 
	source VARCHAR(500), 
	run_id VARCHAR(32), 
	status VARCHAR(20), 
	status_message VARCHAR(500), 
	run_link VARCHAR(500), 
	storage_location VARCHAR(500), 
	workspace VARCHAR(63) DEFAULT 'default' NOT NULL, 
	CONSTRAINT model_version_pk PRIMARY KEY (workspace, name, version), 
	CONSTRAINT fk_model_versions_registered_models FOREIGN KEY(workspace, name) REFERENCES registered_models (workspace, name) ON UPDATE CASCADE
);
INSERT INTO "model_versions" VALUES('digits',1,1795576485912,1795576485912,NULL,NULL,'None','models:/m-85deeccf21bd4f1cb404ebaed2e73a3c','b2c18c4d477649788304b596c9a5c6ea','READY',NULL,NULL,'file://{STUDIES}/artifacts/models/m-85deeccf21bd4f1cb404ebaed2e73a3c/artifacts','default');
CREATE TABLE online_scoring_configs (
	online_scoring_config_id VARCHAR(36) NOT NULL, 
	scorer_id VARCHAR(36) NOT NULL, 
	sample_rate FLOAT NOT NULL, 
	experiment_id INTEGER NOT NULL, 
	filter_string TEXT, 
	CONSTRAINT online_scoring_config_pk PRIMARY KEY (online_scoring_config_id), 
	CONSTRAINT fk_online_scoring_configs_scorer_id FOREIGN KEY(scorer_id) REFERENCES scorers (scorer_id) ON DELETE CASCADE, 
	CONSTRAINT fk_online_scoring_configs_experiment_id FOREIGN KEY(experiment_id) REFERENCES experiments (experiment_id)
);
CREATE TABLE "params" (
	"key" VARCHAR(250) NOT NULL, 
	value VARCHAR(8000) NOT NULL, 
	run_uuid VARCHAR(32) NOT NULL, 
	CONSTRAINT param_pk PRIMARY KEY ("key", run_uuid), 
	FOREIGN KEY(run_uuid) REFERENCES runs (run_uuid)
);
INSERT INTO "params" VALUES('trainable','mlp','67c9e321a5bb40739eca02519f532712');
INSERT INTO "params" VALUES('maximize','val_accuracy','67c9e321a5bb40739eca02519f532712');
INSERT INTO "params" VALUES('algorithm','{"name": "optuna", "startup": 3}','67c9e321a5bb40739eca02519f532712');
INSERT INTO "params" VALUES('scheduler','{"name": "asha", "kind": "promotion", "grace": 1, "reduction": 2}','67c9e321a5bb40739eca02519f532712');
INSERT INTO "params" VALUES('trials','6','67c9e321a5bb40739eca02519f532712');
INSERT INTO "params" VALUES('space_data','digits','67c9e321a5bb40739eca02519f532712');
INSERT INTO "params" VALUES('space_epochs','4','67c9e321a5bb40739eca02519f532712');
INSERT INTO "params" VALUES('space_layers','{"int": [1, 2]}','67c9e321a5bb40739eca02519f532712');
INSERT INTO "params" VALUES('space_units','{"int": [4, 8], "each": "layers"}','67c9e321a5bb40739eca02519f532712');
INSERT INTO "params" VALUES('space_activation','["relu", "tanh"]','67c9e321a5bb40739eca02519f532712');
INSERT INTO "params" VALUES('space_optimizer','["adam", "sgd"]','67c9e321a5bb40739eca02519f532712');
INSERT INTO "params" VALUES('space_momentum','{"float": [0.5, 0.99], "when": {"optimizer": "sgd"}}','67c9e321a5bb40739eca02519f532712');
INSERT INTO "params" VALUES('space_lr','{"float": [0.001, 0.1], "log": true}','67c9e321a5bb40739eca02519f532712');
INSERT INTO "params" VALUES('space_batch_size','[64, 128]','67c9e321a5bb40739eca02519f532712');
INSERT INTO "params" VALUES('data','digits','1c354245898746329feeb4e95ea235b0');
INSERT INTO "params" VALUES('epochs','4','1c354245898746329feeb4e95ea235b0');
INSERT INTO "params" VALUES('layers','2','1c354245898746329feeb4e95ea235b0');
INSERT INTO "params" VALUES('units_0','8','1c354245898746329feeb4e95ea235b0');
INSERT INTO "params" VALUES('units_1','5','1c354245898746329feeb4e95ea235b0');
INSERT INTO "params" VALUES('activation','relu','1c354245898746329feeb4e95ea235b0');
INSERT INTO "params" VALUES('optimizer','adam','1c354245898746329feeb4e95ea235b0');
INSERT INTO "params" VALUES('lr','0.006999535616414728','1c354245898746329feeb4e95ea235b0');
INSERT INTO "params" VALUES('batch_size','64','1c354245898746329feeb4e95ea235b0');
INSERT INTO "params" VALUES('log10_lr','-2.154931','1c354245898746329feeb4e95ea235b0');
INSERT INTO "params" VALUES('data','digits','1e0124e2cf324ac9ae86d22d905de99c');
INSERT INTO "params" VALUES('epochs','4','1e0124e2cf324ac9ae86d22d905de99c');
INSERT INTO "params" VALUES('layers','1','1e0124e2cf324ac9ae86d22d905de99c');
INSERT INTO "params" VALUES('units_0','5','1e0124e2cf324ac9ae86d22d905de99c');
INSERT INTO "params" VALUES('activation','tanh','1e0124e2cf324ac9ae86d22d905de99c');
INSERT INTO "params" VALUES('optimizer','sgd','1e0124e2cf324ac9ae86d22d905de99c');
INSERT INTO "params" VALUES('momentum','0.6221353651210666','1e0124e2cf324ac9ae86d22d905de99c');
INSERT INTO "params" VALUES('lr','0.0697226111380368','1e0124e2cf324ac9ae86d22d905de99c');
INSERT INTO "params" VALUES('batch_size','128','1e0124e2cf324ac9ae86d22d905de99c');
INSERT INTO "params" VALUES('log10_lr','-1.156626','1e0124e2cf324ac9ae86d22d905de99c');
INSERT INTO "params" VALUES('data','digits','a2d849e9605340e0a9f5d8db4bea78e3');
INSERT INTO "params" VALUES('epochs','4','a2d849e9605340e0a9f5d8db4bea78e3');
INSERT INTO "params" VALUES('layers','1','a2d849e9605340e0a9f5d8db4bea78e3');
INSERT INTO "params" VALUES('units_0','7','a2d849e9605340e0a9f5d8db4bea78e3');
INSERT INTO "params" VALUES('activation','relu','a2d849e9605340e0a9f5d8db4bea78e3');
INSERT INTO "params" VALUES('optimizer','sgd','a2d849e9605340e0a9f5d8db4bea78e3');
INSERT INTO "params" VALUES('momentum','0.6874328575469554','a2d849e9605340e0a9f5d8db4bea78e3');
INSERT INTO "params" VALUES('lr','0.0016689398484336525','a2d849e9605340e0a9f5d8db4bea78e3');
INSERT INTO "params" VALUES('batch_size','128','a2d849e9605340e0a9f5d8db4bea78e3');
INSERT INTO "params" VALUES('log10_lr','-2.777559','a2d849e9605340e0a9f5d8db4bea78e3');
INSERT INTO "params" VALUES('data','digits','277ed218c2e4459eb2a11935ebf90838');
INSERT INTO "params" VALUES('epochs','4','277ed218c2e4459eb2a11935ebf90838');
INSERT INTO "params" VALUES('layers','1','277ed218c2e4459eb2a11935ebf90838');
INSERT INTO "params" VALUES('units_0','6','277ed218c2e4459eb2a11935ebf90838');
INSERT INTO "params" VALUES('activation','tanh','277ed218c2e4459eb2a11935ebf90838');
INSERT INTO "params" VALUES('optimizer','sgd','277ed218c2e4459eb2a11935ebf90838');
INSERT INTO "params" VALUES('momentum','0.5463649359253008','277ed218c2e4459eb2a11935ebf90838');
INSERT INTO "params" VALUES('lr','0.011594175081286913','277ed218c2e4459eb2a11935ebf90838');
INSERT INTO "params" VALUES('batch_size','128','277ed218c2e4459eb2a11935ebf90838');
INSERT INTO "params" VALUES('log10_lr','-1.93576','277ed218c2e4459eb2a11935ebf90838');
INSERT INTO "params" VALUES('data','digits','b88c441c840f4faa92322520a46ff55a');
INSERT INTO "params" VALUES('epochs','4','b88c441c840f4faa92322520a46ff55a');
INSERT INTO "params" VALUES('layers','2','b88c441c840f4faa92322520a46ff55a');
INSERT INTO "params" VALUES('units_0','8','b88c441c840f4faa92322520a46ff55a');
INSERT INTO "params" VALUES('units_1','8','b88c441c840f4faa92322520a46ff55a');
INSERT INTO "params" VALUES('activation','tanh','b88c441c840f4faa92322520a46ff55a');
INSERT INTO "params" VALUES('optimizer','sgd','b88c441c840f4faa92322520a46ff55a');
INSERT INTO "params" VALUES('momentum','0.8670793816797535','b88c441c840f4faa92322520a46ff55a');
INSERT INTO "params" VALUES('lr','0.010529143820251512','b88c441c840f4faa92322520a46ff55a');
INSERT INTO "params" VALUES('batch_size','128','b88c441c840f4faa92322520a46ff55a');
INSERT INTO "params" VALUES('log10_lr','-1.977607','b88c441c840f4faa92322520a46ff55a');
INSERT INTO "params" VALUES('data','digits','b2c18c4d477649788304b596c9a5c6ea');
INSERT INTO "params" VALUES('epochs','4','b2c18c4d477649788304b596c9a5c6ea');
INSERT INTO "params" VALUES('layers','2','b2c18c4d477649788304b596c9a5c6ea');
INSERT INTO "params" VALUES('units_0','4','b2c18c4d477649788304b596c9a5c6ea');
INSERT INTO "params" VALUES('units_1','4','b2c18c4d477649788304b596c9a5c6ea');
INSERT INTO "params" VALUES('activation','tanh','b2c18c4d477649788304b596c9a5c6ea');
INSERT INTO "params" VALUES('optimizer','adam','b2c18c4d477649788304b596c9a5c6ea');
INSERT INTO "params" VALUES('lr','0.0905942637698978','b2c18c4d477649788304b596c9a5c6ea');
INSERT INTO "params" VALUES('batch_size','128','b2c18c4d477649788304b596c9a5c6ea');
INSERT INTO "params" VALUES('log10_lr','-1.042899','b2c18c4d477649788304b596c9a5c6ea');
CREATE TABLE "registered_model_aliases" (
	alias VARCHAR(256) NOT NULL, 
	version INTEGER NOT NULL, 
	name VARCHAR(256) NOT NULL, 
	workspace VARCHAR(63) DEFAULT 'default' NOT NULL, 
	CONSTRAINT registered_model_alias_pk PRIMARY KEY (workspace, name, alias), 
	CONSTRAINT fk_registered_model_aliases_registered_models FOREIGN KEY(workspace, name) REFERENCES registered_models (workspace, name) ON DELETE CASCADE ON UPDATE CASCADE
);
INSERT INTO "registered_model_aliases" VALUES('best',1,'digits','default');
CREATE TABLE "registered_model_tags" (
	"key" VARCHAR(250) NOT NULL, 
	value VARCHAR(5000), 
	name VARCHAR(256) NOT NULL, 
	workspace VARCHAR(63) DEFAULT 'default' NOT NULL, 
	CONSTRAINT registered_model_tag_pk PRIMARY KEY (workspace, "key", name), 
	CONSTRAINT fk_registered_model_tags_registered_models FOREIGN KEY(workspace, name) REFERENCES registered_models (workspace, name) ON UPDATE CASCADE
);
CREATE TABLE "registered_models" (
	name VARCHAR(256) NOT NULL, 
	creation_time BIGINT, 
	last_updated_time BIGINT, 
	description VARCHAR(5000), 
	workspace VARCHAR(63) DEFAULT 'default' NOT NULL, 
	CONSTRAINT registered_model_pk PRIMARY KEY (workspace, name)
);
INSERT INTO "registered_models" VALUES('digits',1795576485902,1795576485912,NULL,'default');
CREATE TABLE review_queue_items (
	queue_id VARCHAR(36) NOT NULL, 
	item_type VARCHAR(16) NOT NULL, 
	item_id VARCHAR(50) NOT NULL, 
	status VARCHAR(16) NOT NULL, 
	completed_by VARCHAR(250), 
	completed_time_ms BIGINT, 
	creation_time_ms BIGINT NOT NULL, 
	last_update_time_ms BIGINT NOT NULL, 
	CONSTRAINT review_queue_items_pk PRIMARY KEY (queue_id, item_id), 
	CONSTRAINT fk_review_queue_items_queue_id FOREIGN KEY(queue_id) REFERENCES review_queues (queue_id) ON DELETE CASCADE
);
CREATE TABLE review_queue_label_schemas (
	queue_id VARCHAR(36) NOT NULL, 
	schema_id VARCHAR(36) NOT NULL, 
	CONSTRAINT review_queue_label_schemas_pk PRIMARY KEY (queue_id, schema_id), 
	CONSTRAINT fk_review_queue_label_schemas_queue_id FOREIGN KEY(queue_id) REFERENCES review_queues (queue_id) ON DELETE CASCADE
);
CREATE TABLE review_queue_users (
	queue_id VARCHAR(36) NOT NULL, 
	user_id VARCHAR(250) NOT NULL, 
	CONSTRAINT review_queue_users_pk PRIMARY KEY (queue_id, user_id), 
	CONSTRAINT fk_review_queue_users_queue_id FOREIGN KEY(queue_id) REFERENCES review_queues (queue_id) ON DELETE CASCADE
);
CREATE TABLE review_queues (
	queue_id VARCHAR(36) NOT NULL, 
	experiment_id INTEGER NOT NULL, 
	name VARCHAR(250) NOT NULL, 
	queue_type VARCHAR(16) NOT NULL, 
	created_by VARCHAR(255), 
	creation_time_ms BIGINT NOT NULL, 
	last_update_time_ms BIGINT NOT NULL, 
	name_key VARCHAR(250) NOT NULL, 
	CONSTRAINT review_queues_pk PRIMARY KEY (queue_id), 
	CONSTRAINT fk_review_queues_experiment_id FOREIGN KEY(experiment_id) REFERENCES experiments (experiment_id) ON DELETE CASCADE, 
	CONSTRAINT uq_review_queues_experiment_name_key UNIQUE (experiment_id, name_key)
);
CREATE TABLE "runs" (
	run_uuid VARCHAR(32) NOT NULL, 
	name VARCHAR(250), 
	source_type VARCHAR(20), 
	source_name VARCHAR(500), 
	entry_point_name VARCHAR(50), 
	user_id VARCHAR(256), 
	status VARCHAR(9), 
	start_time BIGINT, 
	end_time BIGINT, 
	source_version VARCHAR(50), 
	lifecycle_stage VARCHAR(20), 
	artifact_uri VARCHAR(200), 
	experiment_id INTEGER, deleted_time BIGINT, 
	CONSTRAINT run_pk PRIMARY KEY (run_uuid), 
	CONSTRAINT runs_lifecycle_stage CHECK (lifecycle_stage IN ('active', 'deleted')), 
	CONSTRAINT source_type CHECK (source_type IN ('NOTEBOOK', 'JOB', 'LOCAL', 'UNKNOWN', 'PROJECT')), 
	FOREIGN KEY(experiment_id) REFERENCES experiments (experiment_id), 
	CHECK (status IN ('SCHEDULED', 'FAILED', 'FINISHED', 'RUNNING', 'KILLED'))
);
INSERT INTO "runs" VALUES('67c9e321a5bb40739eca02519f532712','digits','UNKNOWN','','','unknown','FINISHED',1795576458794,1795576487009,'','active','file://{STUDIES}/artifacts/67c9e321a5bb40739eca02519f532712/artifacts',1,NULL);
INSERT INTO "runs" VALUES('1c354245898746329feeb4e95ea235b0','trial-0000','UNKNOWN','','','unknown','FINISHED',1795576471381,1795576479247,'','active','file://{STUDIES}/artifacts/1c354245898746329feeb4e95ea235b0/artifacts',1,NULL);
INSERT INTO "runs" VALUES('1e0124e2cf324ac9ae86d22d905de99c','trial-0001','UNKNOWN','','','unknown','FINISHED',1795576471390,1795576478692,'','active','file://{STUDIES}/artifacts/1e0124e2cf324ac9ae86d22d905de99c/artifacts',1,NULL);
INSERT INTO "runs" VALUES('a2d849e9605340e0a9f5d8db4bea78e3','trial-0002','UNKNOWN','','','unknown','FINISHED',1795576478561,1795576479255,'','active','file://{STUDIES}/artifacts/a2d849e9605340e0a9f5d8db4bea78e3/artifacts',1,NULL);
INSERT INTO "runs" VALUES('277ed218c2e4459eb2a11935ebf90838','trial-0003','UNKNOWN','','','unknown','FINISHED',1795576478609,1795576479255,'','active','file://{STUDIES}/artifacts/277ed218c2e4459eb2a11935ebf90838/artifacts',1,NULL);
INSERT INTO "runs" VALUES('b88c441c840f4faa92322520a46ff55a','trial-0004','UNKNOWN','','','unknown','FINISHED',1795576478639,1795576479256,'','active','file://{STUDIES}/artifacts/b88c441c840f4faa92322520a46ff55a/artifacts',1,NULL);
INSERT INTO "runs" VALUES('b2c18c4d477649788304b596c9a5c6ea','trial-0005','UNKNOWN','','','unknown','FINISHED',1795576478719,1795576478786,'','active','file://{STUDIES}/artifacts/b2c18c4d477649788304b596c9a5c6ea/artifacts',1,NULL);
CREATE TABLE scheduler_leases (
	lease_key VARCHAR(255) NOT NULL, 
	acquired_at BIGINT NOT NULL, 
	ttl_seconds INTEGER NOT NULL, 
	CONSTRAINT scheduler_leases_pk PRIMARY KEY (lease_key)
);
CREATE TABLE scorer_versions (
	scorer_id VARCHAR(36) NOT NULL, 
	scorer_version INTEGER NOT NULL, 
	serialized_scorer TEXT NOT NULL, 
	creation_time BIGINT, 
	CONSTRAINT scorer_version_pk PRIMARY KEY (scorer_id, scorer_version), 
	CONSTRAINT fk_scorer_versions_scorer_id FOREIGN KEY(scorer_id) REFERENCES scorers (scorer_id) ON DELETE CASCADE
);
CREATE TABLE scorers (
	experiment_id INTEGER NOT NULL, 
	scorer_name VARCHAR(256) NOT NULL, 
	scorer_id VARCHAR(36) NOT NULL, 
	CONSTRAINT scorer_pk PRIMARY KEY (scorer_id), 
	CONSTRAINT fk_scorers_experiment_id FOREIGN KEY(experiment_id) REFERENCES experiments (experiment_id) ON DELETE CASCADE
);
CREATE TABLE "secrets" (
	secret_id VARCHAR(36) NOT NULL, 
	secret_name VARCHAR(255) NOT NULL, 
	encrypted_value BLOB NOT NULL, 
	wrapped_dek BLOB NOT NULL, 
	kek_version INTEGER NOT NULL, 
	masked_value VARCHAR(500) NOT NULL, 
	provider VARCHAR(64), 
	auth_config TEXT, 
	description TEXT, 
	created_by VARCHAR(255), 
	created_at BIGINT NOT NULL, 
	last_updated_by VARCHAR(255), 
	last_updated_at BIGINT NOT NULL, 
	workspace VARCHAR(63) DEFAULT 'default' NOT NULL, 
	CONSTRAINT secrets_pk PRIMARY KEY (secret_id), 
	CONSTRAINT uq_secrets_workspace_secret_name UNIQUE (workspace, secret_name)
);
CREATE TABLE span_metrics (
	trace_id VARCHAR(50) NOT NULL, 
	span_id VARCHAR(50) NOT NULL, 
	"key" VARCHAR(250) NOT NULL, 
	value FLOAT, 
	CONSTRAINT span_metrics_pk PRIMARY KEY (trace_id, span_id, "key"), 
	CONSTRAINT fk_span_metrics_span FOREIGN KEY(trace_id, span_id) REFERENCES spans (trace_id, span_id) ON DELETE CASCADE
);
CREATE TABLE "spans" (
	trace_id VARCHAR(50) NOT NULL, 
	experiment_id INTEGER NOT NULL, 
	span_id VARCHAR(50) NOT NULL, 
	parent_span_id VARCHAR(50), 
	name TEXT, 
	type VARCHAR(500), 
	status VARCHAR(50) NOT NULL, 
	start_time_unix_nano BIGINT NOT NULL, 
	end_time_unix_nano BIGINT, 
	duration_ns BIGINT GENERATED ALWAYS AS (end_time_unix_nano - start_time_unix_nano) STORED, 
	content TEXT NOT NULL, 
	input_cost FLOAT, 
	output_cost FLOAT, 
	total_cost FLOAT, 
	model_name VARCHAR(500), 
	model_provider VARCHAR(500), 
	CONSTRAINT spans_pk PRIMARY KEY (trace_id, span_id), 
	CONSTRAINT fk_spans_experiment_id FOREIGN KEY(experiment_id) REFERENCES experiments (experiment_id), 
	CONSTRAINT fk_spans_trace_id FOREIGN KEY(trace_id) REFERENCES trace_info (request_id) ON DELETE CASCADE
);
CREATE TABLE sql_assessment_daily_rollups (
	id INTEGER NOT NULL, 
	experiment_id INTEGER NOT NULL, 
	rollup_day DATE NOT NULL, 
	metric_name VARCHAR(250) NOT NULL, 
	grouping_set VARCHAR(50) NOT NULL, 
	sample_count BIGINT NOT NULL, 
	sum_value FLOAT, 
	min_value FLOAT, 
	max_value FLOAT, 
	CONSTRAINT sql_assessment_daily_rollups_pk PRIMARY KEY (id)
);
CREATE TABLE sql_span_cost_daily_rollups (
	id INTEGER NOT NULL, 
	experiment_id INTEGER NOT NULL, 
	rollup_day DATE NOT NULL, 
	metric_name VARCHAR(250) NOT NULL, 
	grouping_set VARCHAR(50) NOT NULL, 
	model_name VARCHAR(500), 
	model_provider VARCHAR(500), 
	sample_count BIGINT NOT NULL, 
	sum_value FLOAT, 
	min_value FLOAT, 
	max_value FLOAT, 
	CONSTRAINT sql_span_cost_daily_rollups_pk PRIMARY KEY (id)
);
CREATE TABLE sql_trace_metric_daily_rollups (
	id INTEGER NOT NULL, 
	experiment_id INTEGER NOT NULL, 
	rollup_day DATE NOT NULL, 
	metric_name VARCHAR(250) NOT NULL, 
	grouping_set VARCHAR(50) NOT NULL, 
	trace_status VARCHAR(50), 
	sample_count BIGINT NOT NULL, 
	sum_value FLOAT, 
	min_value FLOAT, 
	max_value FLOAT, 
	p50_value FLOAT, 
	p90_value FLOAT, 
	p99_value FLOAT, 
	CONSTRAINT sql_trace_metric_daily_rollups_pk PRIMARY KEY (id)
);
CREATE TABLE sql_trace_rollup_rebuild_queue (
	experiment_id INTEGER NOT NULL, 
	rollup_day DATE NOT NULL, 
	rollup_family VARCHAR(50) NOT NULL, 
	CONSTRAINT sql_trace_rollup_rebuild_queue_pk PRIMARY KEY (experiment_id, rollup_day, rollup_family)
);
CREATE TABLE "tags" (
	"key" VARCHAR(250) NOT NULL, 
	value VARCHAR(8000), 
	run_uuid VARCHAR(32) NOT NULL, 
	CONSTRAINT tag_pk PRIMARY KEY ("key", run_uuid), 
	FOREIGN KEY(run_uuid) REFERENCES runs (run_uuid)
);
INSERT INTO "tags" VALUES('role','study','67c9e321a5bb40739eca02519f532712');
INSERT INTO "tags" VALUES('study','digits','67c9e321a5bb40739eca02519f532712');
INSERT INTO "tags" VALUES('study_id','16ae89b8e6084e63a3bf73c1f42c807a','67c9e321a5bb40739eca02519f532712');
INSERT INTO "tags" VALUES('objective','maximize val_accuracy','67c9e321a5bb40739eca02519f532712');
INSERT INTO "tags" VALUES('algorithm','{"name": "optuna", "startup": 3}','67c9e321a5bb40739eca02519f532712');
INSERT INTO "tags" VALUES('code_sha256','b8f662fb25ed811c6098f0f2789e50c640637fbe212d4bf1935740620be9e9cb','67c9e321a5bb40739eca02519f532712');
INSERT INTO "tags" VALUES('command','/home/ada/raysweep/platform/raysweep/__main__.py run digits.yaml -q','67c9e321a5bb40739eca02519f532712');
INSERT INTO "tags" VALUES('version_raysweep','0.1.0','67c9e321a5bb40739eca02519f532712');
INSERT INTO "tags" VALUES('version_python','3.11.7','67c9e321a5bb40739eca02519f532712');
INSERT INTO "tags" VALUES('version_ray','2.60.0','67c9e321a5bb40739eca02519f532712');
INSERT INTO "tags" VALUES('version_torch','2.14.1','67c9e321a5bb40739eca02519f532712');
INSERT INTO "tags" VALUES('version_torchvision','0.29.1','67c9e321a5bb40739eca02519f532712');
INSERT INTO "tags" VALUES('version_mlflow','3.17.2','67c9e321a5bb40739eca02519f532712');
INSERT INTO "tags" VALUES('version_numpy','2.4.6','67c9e321a5bb40739eca02519f532712');
INSERT INTO "tags" VALUES('version_pandas','3.1.1','67c9e321a5bb40739eca02519f532712');
INSERT INTO "tags" VALUES('version_scikit_learn','1.9.1','67c9e321a5bb40739eca02519f532712');
INSERT INTO "tags" VALUES('mlflow.source.name','/home/ada/raysweep/platform/raysweep/trainables/mlp.py','67c9e321a5bb40739eca02519f532712');
INSERT INTO "tags" VALUES('mlflow.source.type','LOCAL','67c9e321a5bb40739eca02519f532712');
INSERT INTO "tags" VALUES('mlflow.runName','digits','67c9e321a5bb40739eca02519f532712');
INSERT INTO "tags" VALUES('role','trial','1c354245898746329feeb4e95ea235b0');
INSERT INTO "tags" VALUES('study','digits','1c354245898746329feeb4e95ea235b0');
INSERT INTO "tags" VALUES('study_id','16ae89b8e6084e63a3bf73c1f42c807a','1c354245898746329feeb4e95ea235b0');
INSERT INTO "tags" VALUES('trial','0','1c354245898746329feeb4e95ea235b0');
INSERT INTO "tags" VALUES('seeds','1515903571','1c354245898746329feeb4e95ea235b0');
INSERT INTO "tags" VALUES('mlflow.parentRunId','67c9e321a5bb40739eca02519f532712','1c354245898746329feeb4e95ea235b0');
INSERT INTO "tags" VALUES('point','{"data": "digits", "epochs": 4, "layers": 2, "units": [8, 5], "activation": "relu", "optimizer": "adam", "lr": 0.006999535616414728, "batch_size": 64}','1c354245898746329feeb4e95ea235b0');
INSERT INTO "tags" VALUES('mlflow.runName','trial-0000','1c354245898746329feeb4e95ea235b0');
INSERT INTO "tags" VALUES('stop_reason','stopped','1c354245898746329feeb4e95ea235b0');
INSERT INTO "tags" VALUES('attempts','2','1c354245898746329feeb4e95ea235b0');
INSERT INTO "tags" VALUES('worker','laptop (process 24549)','1c354245898746329feeb4e95ea235b0');
INSERT INTO "tags" VALUES('role','trial','1e0124e2cf324ac9ae86d22d905de99c');
INSERT INTO "tags" VALUES('study','digits','1e0124e2cf324ac9ae86d22d905de99c');
INSERT INTO "tags" VALUES('study_id','16ae89b8e6084e63a3bf73c1f42c807a','1e0124e2cf324ac9ae86d22d905de99c');
INSERT INTO "tags" VALUES('trial','1','1e0124e2cf324ac9ae86d22d905de99c');
INSERT INTO "tags" VALUES('seeds','779621191','1e0124e2cf324ac9ae86d22d905de99c');
INSERT INTO "tags" VALUES('mlflow.parentRunId','67c9e321a5bb40739eca02519f532712','1e0124e2cf324ac9ae86d22d905de99c');
INSERT INTO "tags" VALUES('point','{"data": "digits", "epochs": 4, "layers": 1, "units": [5], "activation": "tanh", "optimizer": "sgd", "momentum": 0.6221353651210666, "lr": 0.0697226111380368, "batch_size": 128}','1e0124e2cf324ac9ae86d22d905de99c');
INSERT INTO "tags" VALUES('mlflow.runName','trial-0001','1e0124e2cf324ac9ae86d22d905de99c');
INSERT INTO "tags" VALUES('stop_reason','completed','1e0124e2cf324ac9ae86d22d905de99c');
INSERT INTO "tags" VALUES('attempts','3','1e0124e2cf324ac9ae86d22d905de99c');
INSERT INTO "tags" VALUES('worker','laptop (process 24549)','1e0124e2cf324ac9ae86d22d905de99c');
INSERT INTO "tags" VALUES('data_fingerprint','e000f1531358b4ddd13578e28fc0b16b4436e3e7bce2e94a958a94bfb416750d','67c9e321a5bb40739eca02519f532712');
INSERT INTO "tags" VALUES('role','trial','a2d849e9605340e0a9f5d8db4bea78e3');
INSERT INTO "tags" VALUES('study','digits','a2d849e9605340e0a9f5d8db4bea78e3');
INSERT INTO "tags" VALUES('study_id','16ae89b8e6084e63a3bf73c1f42c807a','a2d849e9605340e0a9f5d8db4bea78e3');
INSERT INTO "tags" VALUES('trial','2','a2d849e9605340e0a9f5d8db4bea78e3');
INSERT INTO "tags" VALUES('seeds','632044502','a2d849e9605340e0a9f5d8db4bea78e3');
INSERT INTO "tags" VALUES('mlflow.parentRunId','67c9e321a5bb40739eca02519f532712','a2d849e9605340e0a9f5d8db4bea78e3');
INSERT INTO "tags" VALUES('point','{"data": "digits", "epochs": 4, "layers": 1, "units": [7], "activation": "relu", "optimizer": "sgd", "momentum": 0.6874328575469554, "lr": 0.0016689398484336525, "batch_size": 128}','a2d849e9605340e0a9f5d8db4bea78e3');
INSERT INTO "tags" VALUES('mlflow.runName','trial-0002','a2d849e9605340e0a9f5d8db4bea78e3');
INSERT INTO "tags" VALUES('stop_reason','stopped','a2d849e9605340e0a9f5d8db4bea78e3');
INSERT INTO "tags" VALUES('attempts','1','a2d849e9605340e0a9f5d8db4bea78e3');
INSERT INTO "tags" VALUES('worker','laptop (process 24549)','a2d849e9605340e0a9f5d8db4bea78e3');
INSERT INTO "tags" VALUES('role','trial','277ed218c2e4459eb2a11935ebf90838');
INSERT INTO "tags" VALUES('study','digits','277ed218c2e4459eb2a11935ebf90838');
INSERT INTO "tags" VALUES('study_id','16ae89b8e6084e63a3bf73c1f42c807a','277ed218c2e4459eb2a11935ebf90838');
INSERT INTO "tags" VALUES('trial','3','277ed218c2e4459eb2a11935ebf90838');
INSERT INTO "tags" VALUES('seeds','1929455850','277ed218c2e4459eb2a11935ebf90838');
INSERT INTO "tags" VALUES('mlflow.parentRunId','67c9e321a5bb40739eca02519f532712','277ed218c2e4459eb2a11935ebf90838');
INSERT INTO "tags" VALUES('point','{"data": "digits", "epochs": 4, "layers": 1, "units": [6], "activation": "tanh", "optimizer": "sgd", "momentum": 0.5463649359253008, "lr": 0.011594175081286913, "batch_size": 128}','277ed218c2e4459eb2a11935ebf90838');
INSERT INTO "tags" VALUES('mlflow.runName','trial-0003','277ed218c2e4459eb2a11935ebf90838');
INSERT INTO "tags" VALUES('stop_reason','stopped','277ed218c2e4459eb2a11935ebf90838');
INSERT INTO "tags" VALUES('attempts','2','277ed218c2e4459eb2a11935ebf90838');
INSERT INTO "tags" VALUES('worker','laptop (process 24549)','277ed218c2e4459eb2a11935ebf90838');
INSERT INTO "tags" VALUES('role','trial','b88c441c840f4faa92322520a46ff55a');
INSERT INTO "tags" VALUES('study','digits','b88c441c840f4faa92322520a46ff55a');
INSERT INTO "tags" VALUES('study_id','16ae89b8e6084e63a3bf73c1f42c807a','b88c441c840f4faa92322520a46ff55a');
INSERT INTO "tags" VALUES('trial','4','b88c441c840f4faa92322520a46ff55a');
INSERT INTO "tags" VALUES('seeds','1635837593','b88c441c840f4faa92322520a46ff55a');
INSERT INTO "tags" VALUES('mlflow.parentRunId','67c9e321a5bb40739eca02519f532712','b88c441c840f4faa92322520a46ff55a');
INSERT INTO "tags" VALUES('point','{"data": "digits", "epochs": 4, "layers": 2, "units": [8, 8], "activation": "tanh", "optimizer": "sgd", "momentum": 0.8670793816797535, "lr": 0.010529143820251512, "batch_size": 128}','b88c441c840f4faa92322520a46ff55a');
INSERT INTO "tags" VALUES('mlflow.runName','trial-0004','b88c441c840f4faa92322520a46ff55a');
INSERT INTO "tags" VALUES('stop_reason','stopped','b88c441c840f4faa92322520a46ff55a');
INSERT INTO "tags" VALUES('attempts','1','b88c441c840f4faa92322520a46ff55a');
INSERT INTO "tags" VALUES('worker','laptop (process 24549)','b88c441c840f4faa92322520a46ff55a');
INSERT INTO "tags" VALUES('role','trial','b2c18c4d477649788304b596c9a5c6ea');
INSERT INTO "tags" VALUES('study','digits','b2c18c4d477649788304b596c9a5c6ea');
INSERT INTO "tags" VALUES('study_id','16ae89b8e6084e63a3bf73c1f42c807a','b2c18c4d477649788304b596c9a5c6ea');
INSERT INTO "tags" VALUES('trial','5','b2c18c4d477649788304b596c9a5c6ea');
INSERT INTO "tags" VALUES('seeds','595437524','b2c18c4d477649788304b596c9a5c6ea');
INSERT INTO "tags" VALUES('mlflow.parentRunId','67c9e321a5bb40739eca02519f532712','b2c18c4d477649788304b596c9a5c6ea');
INSERT INTO "tags" VALUES('point','{"data": "digits", "epochs": 4, "layers": 2, "units": [4, 4], "activation": "tanh", "optimizer": "adam", "lr": 0.0905942637698978, "batch_size": 128}','b2c18c4d477649788304b596c9a5c6ea');
INSERT INTO "tags" VALUES('mlflow.runName','trial-0005','b2c18c4d477649788304b596c9a5c6ea');
INSERT INTO "tags" VALUES('stop_reason','completed','b2c18c4d477649788304b596c9a5c6ea');
INSERT INTO "tags" VALUES('attempts','3','b2c18c4d477649788304b596c9a5c6ea');
INSERT INTO "tags" VALUES('worker','laptop (process 24549)','b2c18c4d477649788304b596c9a5c6ea');
INSERT INTO "tags" VALUES('best_trial','5','67c9e321a5bb40739eca02519f532712');
INSERT INTO "tags" VALUES('best_run_id','b2c18c4d477649788304b596c9a5c6ea','67c9e321a5bb40739eca02519f532712');
INSERT INTO "tags" VALUES('best_point','{"data": "digits", "epochs": 4, "layers": 2, "units": [4, 4], "activation": "tanh", "optimizer": "adam", "lr": 0.0905942637698978, "batch_size": 128}','67c9e321a5bb40739eca02519f532712');
INSERT INTO "tags" VALUES('best','true','b2c18c4d477649788304b596c9a5c6ea');
CREATE TABLE "trace_info" (
	request_id VARCHAR(50) NOT NULL, 
	experiment_id INTEGER NOT NULL, 
	timestamp_ms BIGINT NOT NULL, 
	execution_time_ms BIGINT, 
	status VARCHAR(50) NOT NULL, 
	client_request_id VARCHAR(50), 
	request_preview VARCHAR(1000), 
	response_preview VARCHAR(1000), 
	db_payload_generation INTEGER DEFAULT '0' NOT NULL, trace_name VARCHAR(4096), session_id VARCHAR(250), input_tokens BIGINT, output_tokens BIGINT, total_tokens BIGINT, cache_read_input_tokens BIGINT, cache_creation_input_tokens BIGINT, cache_creation_input_tokens_above_1hr BIGINT, input_cost FLOAT, output_cost FLOAT, total_cost FLOAT, 
	CONSTRAINT trace_info_pk PRIMARY KEY (request_id), 
	CONSTRAINT fk_trace_info_experiment_id FOREIGN KEY(experiment_id) REFERENCES experiments (experiment_id) ON DELETE CASCADE
);
CREATE TABLE trace_metrics (
	request_id VARCHAR(50) NOT NULL, 
	"key" VARCHAR(250) NOT NULL, 
	value FLOAT, 
	CONSTRAINT trace_metrics_pk PRIMARY KEY (request_id, "key"), 
	CONSTRAINT fk_trace_metrics_request_id FOREIGN KEY(request_id) REFERENCES trace_info (request_id) ON DELETE CASCADE
);
CREATE TABLE "trace_request_metadata" (
	"key" VARCHAR(250) NOT NULL, 
	value VARCHAR(8000), 
	request_id VARCHAR(50) NOT NULL, 
	CONSTRAINT trace_request_metadata_pk PRIMARY KEY ("key", request_id), 
	CONSTRAINT fk_trace_request_metadata_request_id FOREIGN KEY(request_id) REFERENCES trace_info (request_id) ON DELETE CASCADE
);
CREATE TABLE "trace_tags" (
	"key" VARCHAR(250) NOT NULL, 
	value VARCHAR(8000), 
	request_id VARCHAR(50) NOT NULL, 
	CONSTRAINT trace_tag_pk PRIMARY KEY ("key", request_id), 
	CONSTRAINT fk_trace_tags_request_id FOREIGN KEY(request_id) REFERENCES trace_info (request_id) ON DELETE CASCADE
);
CREATE TABLE webhook_events (
	webhook_id VARCHAR(256) NOT NULL, 
	entity VARCHAR(50) NOT NULL, 
	action VARCHAR(50) NOT NULL, 
	CONSTRAINT webhook_event_pk PRIMARY KEY (webhook_id, entity, action), 
	FOREIGN KEY(webhook_id) REFERENCES webhooks (webhook_id) ON DELETE cascade
);
CREATE TABLE "webhooks" (
	webhook_id VARCHAR(256) NOT NULL, 
	name VARCHAR(256) NOT NULL, 
	description VARCHAR(1000), 
	url VARCHAR(500) NOT NULL, 
	status VARCHAR(20) DEFAULT 'ACTIVE' NOT NULL, 
	secret VARCHAR(1000), 
	creation_timestamp BIGINT, 
	last_updated_timestamp BIGINT, 
	deleted_timestamp BIGINT, 
	workspace VARCHAR(63) DEFAULT 'default' NOT NULL, 
	CONSTRAINT webhook_pk PRIMARY KEY (webhook_id)
);
CREATE TABLE workspaces (
	name VARCHAR(63) NOT NULL, 
	description TEXT, 
	default_artifact_root TEXT, trace_archival_location TEXT, trace_archival_retention VARCHAR(32), 
	CONSTRAINT workspaces_pk PRIMARY KEY (name)
);
INSERT INTO "workspaces" VALUES('default','Default workspace for legacy resources',NULL,NULL,NULL);
CREATE INDEX index_metrics_run_uuid ON metrics (run_uuid);
CREATE INDEX index_latest_metrics_run_uuid ON latest_metrics (run_uuid);
CREATE INDEX index_inputs_input_uuid ON inputs (input_uuid);
CREATE INDEX index_inputs_destination_type_destination_id_source_type ON inputs (destination_type, destination_id, source_type);
CREATE INDEX index_params_run_uuid ON params (run_uuid);
CREATE INDEX index_trace_tags_request_id ON trace_tags (request_id);
CREATE INDEX index_trace_request_metadata_request_id ON trace_request_metadata (request_id);
CREATE INDEX index_tags_run_uuid ON tags (run_uuid);
CREATE INDEX index_datasets_experiment_id_dataset_source_type ON datasets (experiment_id, dataset_source_type);
CREATE INDEX index_datasets_dataset_uuid ON datasets (dataset_uuid);
CREATE INDEX index_logged_model_metrics_model_id ON logged_model_metrics (model_id);
CREATE INDEX index_entity_associations_association_id ON entity_associations (association_id);
CREATE INDEX index_entity_associations_reverse_lookup ON entity_associations (destination_type, destination_id, source_type, source_id);
CREATE INDEX idx_webhook_events_entity ON webhook_events (entity);
CREATE INDEX idx_webhook_events_action ON webhook_events (action);
CREATE INDEX idx_webhook_events_entity_action ON webhook_events (entity, action);
CREATE UNIQUE INDEX index_scorers_experiment_id_scorer_name ON scorers (experiment_id, scorer_name);
CREATE INDEX index_scorer_versions_scorer_id ON scorer_versions (scorer_id);
CREATE INDEX index_evaluation_dataset_tags_dataset_id ON evaluation_dataset_tags (dataset_id);
CREATE INDEX index_evaluation_dataset_records_dataset_id ON evaluation_dataset_records (dataset_id);
CREATE INDEX index_endpoint_model_mappings_endpoint_id ON endpoint_model_mappings (endpoint_id);
CREATE INDEX index_endpoint_model_mappings_model_definition_id ON endpoint_model_mappings (model_definition_id);
CREATE INDEX index_endpoint_tags_endpoint_id ON endpoint_tags (endpoint_id);
CREATE INDEX index_trace_metrics_request_id ON trace_metrics (request_id);
CREATE UNIQUE INDEX unique_endpoint_model_linkage_mapping ON endpoint_model_mappings (endpoint_id, model_definition_id, linkage_type);
CREATE INDEX index_span_metrics_trace_id_span_id ON span_metrics (trace_id, span_id);
CREATE INDEX index_evaluation_datasets_created_time ON evaluation_datasets (created_time);
CREATE INDEX index_evaluation_datasets_name ON evaluation_datasets (name);
CREATE INDEX idx_webhooks_status ON webhooks (status);
CREATE INDEX idx_webhooks_name ON webhooks (name);
CREATE TRIGGER prevent_secrets_aad_mutation
BEFORE UPDATE ON secrets
FOR EACH ROW
WHEN OLD.secret_id != NEW.secret_id OR OLD.secret_name != NEW.secret_name
BEGIN
    SELECT RAISE(ABORT, 'secret_id and secret_name are immutable (used as AAD in encryption)');
END;
CREATE INDEX index_model_definitions_secret_id ON model_definitions (secret_id);
CREATE INDEX index_model_definitions_provider ON model_definitions (provider);
CREATE INDEX index_jobs_name_status_creation_time ON jobs (job_name, workspace, status, creation_time);
CREATE INDEX idx_experiments_workspace ON experiments (workspace);
CREATE INDEX idx_registered_models_workspace ON registered_models (workspace);
CREATE INDEX idx_experiments_workspace_creation_time ON experiments (workspace, creation_time);
CREATE INDEX idx_evaluation_datasets_workspace ON evaluation_datasets (workspace);
CREATE INDEX idx_webhooks_workspace ON webhooks (workspace);
CREATE INDEX idx_secrets_workspace ON secrets (workspace);
CREATE INDEX idx_endpoints_workspace ON endpoints (workspace);
CREATE INDEX idx_model_definitions_workspace ON model_definitions (workspace);
CREATE INDEX idx_budget_policies_workspace ON budget_policies (workspace);
CREATE INDEX index_issues_experiment_id ON issues (experiment_id);
CREATE INDEX index_issues_source_run_id ON issues (source_run_id);
CREATE INDEX index_issues_status ON issues (status);
CREATE INDEX index_metrics_run_uuid_key_step ON metrics (run_uuid, "key", step);
CREATE INDEX idx_guardrails_workspace ON guardrails (workspace);
CREATE INDEX idx_guardrails_scorer ON guardrails (scorer_id, scorer_version);
CREATE INDEX idx_guardrail_configs_endpoint_id ON guardrail_configs (endpoint_id);
CREATE INDEX idx_guardrail_configs_guardrail_id ON guardrail_configs (guardrail_id);
CREATE INDEX idx_model_version_tags_workspace_name_version ON model_version_tags (workspace, name, version);
CREATE INDEX idx_registered_model_tags_workspace_name ON registered_model_tags (workspace, name);
CREATE INDEX index_label_schemas_experiment_id ON label_schemas (experiment_id);
CREATE INDEX index_review_queues_experiment_id ON review_queues (experiment_id);
CREATE INDEX index_review_queue_users_user_id ON review_queue_users (user_id);
CREATE INDEX index_review_queue_items_queue_id_status ON review_queue_items (queue_id, status);
CREATE INDEX index_review_queue_items_item_id ON review_queue_items (item_id);
CREATE INDEX index_review_queue_label_schemas_schema_id ON review_queue_label_schemas (schema_id);
CREATE INDEX idx_mcp_server_versions_latest ON mcp_server_versions (workspace, name, status, version_major DESC, version_minor DESC, version_patch DESC);
CREATE INDEX ix_mcp_access_endpoints_server_name ON mcp_access_endpoints (workspace, server_name);
CREATE INDEX ix_mcp_access_endpoints_version ON mcp_access_endpoints (workspace, server_name, server_version);
CREATE INDEX ix_mcp_access_endpoints_alias ON mcp_access_endpoints (workspace, server_name, server_alias);
CREATE INDEX idx_budget_policies_target_value ON budget_policies (target_value);
CREATE INDEX index_trace_info_experiment_id_timestamp_ms ON trace_info (experiment_id, timestamp_ms);
CREATE INDEX index_trace_info_timestamp_ms_request_id ON trace_info (timestamp_ms, request_id);
CREATE INDEX index_assessments_last_updated_timestamp ON assessments (last_updated_timestamp);
CREATE INDEX index_assessments_trace_id_created_timestamp ON assessments (trace_id, created_timestamp);
CREATE INDEX index_assessments_assessment_type ON assessments (assessment_type);
CREATE INDEX index_assessments_run_id_created_timestamp ON assessments (run_id, created_timestamp);
CREATE INDEX index_spans_experiment_id_duration ON spans (experiment_id, duration_ns);
CREATE INDEX index_spans_experiment_id_status_type ON spans (experiment_id, status, type);
CREATE INDEX index_spans_experiment_id_type_status ON spans (experiment_id, type, status);
CREATE INDEX index_spans_experiment_id_start_time ON spans (experiment_id, start_time_unix_nano);
CREATE INDEX index_trace_info_experiment_id_session_id ON trace_info (experiment_id, session_id);
CREATE INDEX idx_trace_rollups_lookup ON sql_trace_metric_daily_rollups (experiment_id, rollup_day, metric_name, grouping_set, trace_status);
CREATE INDEX idx_span_cost_rollups_lookup ON sql_span_cost_daily_rollups (experiment_id, rollup_day, metric_name, grouping_set, model_name, model_provider);
CREATE INDEX idx_assessment_rollups_lookup ON sql_assessment_daily_rollups (experiment_id, rollup_day, metric_name, grouping_set);
CREATE INDEX idx_spans_cost_trace_time_cover ON spans (trace_id, start_time_unix_nano);
CREATE INDEX idx_spans_cost_exp_time_cover ON spans (experiment_id, start_time_unix_nano);
CREATE INDEX idx_assessments_exp_trace_ts ON assessments (experiment_id, trace_timestamp_ms);
CREATE INDEX idx_assessments_exp_trace_ts_name ON assessments (experiment_id, trace_timestamp_ms, name);
CREATE INDEX idx_assessments_exp_name_valid ON assessments (experiment_id, name, valid);
CREATE INDEX index_job_locks_job_id ON job_locks (job_id);
CREATE INDEX index_jobs_status_lease_expires_at ON jobs (status, lease_expires_at);
COMMIT;