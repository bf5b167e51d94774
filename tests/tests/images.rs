//! Jobs that ask for an image, services or steps, which are not supported.

use nunbird_tests::{Job, Privilege, World, needs};
use serde_json::{Value, json};

/// `image:`, `services:` and `run:` as the server passes them on.
fn asking<'w>(world: &'w World, image: Value, services: Value, run: Value) -> Job<'w> {
    world.job().response(move |response| {
        response["image"] = image.clone();
        response["services"] = services.clone();
        response["run"] = run.clone();
    })
}

#[needs(root)]
fn a_job_with_an_image_reads_that_it_is_not_used_or_is_refused() {
    for privilege in Privilege::ALL {
        let world = World::new(privilege);
        world.write_keys();
        let image = json!({ "name": "rocky\u{1b}[31mlinux:9", "entrypoint": null });
        let named = json!({ "name": "rockylinux:9" });
        let services = json!([{ "name": "postgres:16" }, { "name": "redis", "alias": "cache" }]);
        let prepared = |job: Job<'_>| {
            let mut session = job.begin();
            let config = session.config();
            if !config.succeeded() {
                return Err(config.log);
            }
            let prepare = session.prepare();
            assert!(prepare.succeeded(), "{}", prepare.log);
            assert!(session.cleanup().succeeded());
            Ok(prepare.log)
        };
        let none = prepared(asking(&world, json!({ "name": "" }), json!([]), Value::Null)).expect("admitted");
        assert!(!none.contains("warning:"), "{none}");
        let all = prepared(asking(&world, named.clone(), services.clone(), json!("[{}]"))).expect("admitted");
        for line in [
            "warning: `image: rockylinux:9` is not used",
            "warning: `services:` (postgres:16, redis) are not started",
            "warning: `run:` needs the program step-runner",
        ] {
            assert!(all.contains(line), "{privilege:?}: {all}");
        }
        let strange = prepared(asking(&world, image, json!(7), json!(false))).expect("admitted");
        assert!(strange.contains("`image: ?` is not used") && !strange.contains("services"), "{strange}");

        world.reconfigure("[job]\n", "[job]\nimages = \"ignore\"\n");
        let ignored =
            prepared(asking(&world, named.clone(), services.clone(), Value::Null)).expect("admitted");
        assert!(!ignored.contains("warning:"), "{ignored}");

        world.reconfigure("images = \"ignore\"", "images = \"refuse\"");
        let refused = prepared(asking(&world, named, services, Value::Null)).expect_err("refused");
        assert!(refused.contains("[images]"), "{privilege:?}: {refused}");
        assert!(refused.contains("does not run an image (`image:`), services (`services:`)"), "{refused}");
        let steps = prepared(asking(&world, Value::Null, Value::Null, json!("[{}]"))).expect_err("refused");
        assert!(steps.contains("steps (`run:`)"), "{steps}");
        assert!(prepared(world.job()).is_ok());
        assert!(world.records().is_empty());
    }
}
