"""Fine-tune on SageMaker with spot instances, then serve the model on an endpoint.

    python examples/sagemaker_launch.py --role ROLE --bucket BUCKET --data photos/ --image IMAGE_URI
    python examples/sagemaker_launch.py --smoke     # print the requests and send nothing; needs no account

Needs the extra `sagemaker` and AWS credentials. IMAGE_URI is the container of `examples/sagemaker/Dockerfile`, pushed
to your registry:

    docker build -f examples/sagemaker/Dockerfile -t IMAGE_URI . && docker push IMAGE_URI

SageMaker runs `train` in it for the job and `serve` for the endpoint.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

from blip_refine.apps.sagemaker.metric_lines import METRIC_DEFINITIONS


def training_job(arguments: argparse.Namespace, name: str) -> dict:
    """What `CreateTrainingJob` is asked for."""
    bucket = f"s3://{arguments.bucket}/{name}"
    hyperparameters = {
        "model": "Salesforce/blip-image-captioning-base",
        "lora": "true",
        "merge": "true",  # the endpoint then needs no base from the Hub
        "metrics": "Bleu,METEOR,ROUGE_L,CIDEr",
        "num_train_epochs": "4",
        # A T4 has 16 GB and no bfloat16.
        "fp16": "true",
        "per_device_train_batch_size": "8",
        "gradient_accumulation_steps": "4",
        "save_strategy": "steps",
        "save_steps": "200",
        "eval_strategy": "steps",
        "eval_steps": "200",
    }
    return {
        "TrainingJobName": name,
        "RoleArn": arguments.role,
        "AlgorithmSpecification": {
            "TrainingImage": arguments.image,
            "TrainingInputMode": "File",
            "MetricDefinitions": METRIC_DEFINITIONS,
        },
        "HyperParameters": hyperparameters,
        "InputDataConfig": [
            {
                "ChannelName": "train",
                "DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": f"{bucket}/data"}},
            }
        ],
        "OutputDataConfig": {"S3OutputPath": f"{bucket}/output"},
        # What lies here is brought back after a spot stop, and training goes on from it.
        "CheckpointConfig": {"S3Uri": f"{bucket}/checkpoints", "LocalPath": "/opt/ml/checkpoints"},
        "EnableManagedSpotTraining": True,
        "StoppingCondition": {"MaxRuntimeInSeconds": 6 * 3600, "MaxWaitTimeInSeconds": 12 * 3600},
        "ResourceConfig": {"InstanceType": "ml.g4dn.xlarge", "InstanceCount": 1, "VolumeSizeInGB": 100},
    }


def endpoint_requests(arguments: argparse.Namespace, name: str) -> dict[str, dict]:
    """What `CreateModel`, `CreateEndpointConfig` and `CreateEndpoint` are asked for."""
    container = {
        "Image": arguments.image,
        "Environment": {"BLIP_REFINE_REFINER": "rules"},
        "ModelDataUrl": f"s3://{arguments.bucket}/{name}/output/{name}/output/model.tar.gz",
    }
    variant = {
        "VariantName": "all",
        "ModelName": name,
        "InstanceType": "ml.g4dn.xlarge",
        "InitialInstanceCount": 1,
    }
    return {
        "create_model": {"ModelName": name, "ExecutionRoleArn": arguments.role, "PrimaryContainer": container},
        "create_endpoint_config": {"EndpointConfigName": name, "ProductionVariants": [variant]},
        "create_endpoint": {"EndpointName": name, "EndpointConfigName": name},
    }


def upload(session, folder: Path, bucket: str, prefix: str) -> None:
    """Copy a folder of captioned pictures to S3."""
    client = session.client("s3")
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            client.upload_file(str(path), bucket, f"{prefix}/{path.relative_to(folder).as_posix()}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--role", default="arn:aws:iam::123456789012:role/example", help="role that the job runs as")
    parser.add_argument("--bucket", default="example-bucket", help="bucket for data, checkpoints and the model")
    parser.add_argument("--data", type=Path, help="folder of pictures with metadata.jsonl")
    parser.add_argument("--image", default="example/blip-refine:latest", help="container image")
    parser.add_argument("--smoke", action="store_true", help="print the requests and send nothing")
    arguments = parser.parse_args()
    name = "blip-refine" if arguments.smoke else f"blip-refine-{time.strftime('%Y%m%d-%H%M%S')}"
    job, endpoint = training_job(arguments, name), endpoint_requests(arguments, name)
    if arguments.smoke:
        print(json.dumps({"create_training_job": job, **endpoint}, indent=2))
        return
    if arguments.data is None:
        parser.error("--data names the folder of captioned pictures")
    import boto3

    session = boto3.Session()
    upload(session, arguments.data, arguments.bucket, f"{name}/data")
    client = session.client("sagemaker")
    client.create_training_job(**job)
    print(f"Training {name} ...")
    client.get_waiter("training_job_completed_or_stopped").wait(TrainingJobName=name)
    status = client.describe_training_job(TrainingJobName=name)
    if status["TrainingJobStatus"] != "Completed":
        raise SystemExit(f"{name}: {status['TrainingJobStatus']}: {status.get('FailureReason', 'no reason given')}")
    for request, parameters in endpoint.items():
        getattr(client, request)(**parameters)
    client.get_waiter("endpoint_in_service").wait(EndpointName=name)
    print(f"Endpoint {name} is in service; delete it with: aws sagemaker delete-endpoint --endpoint-name {name}")


if __name__ == "__main__":
    main()
