//! The schema accepts what the configuration's reader accepts, and refuses what it refuses.

use crate::scene::Scene;
use serde_json::{Map, Value, json};
use toml::de::{DeTable, DeValue};

/// The part of JSON Schema 2020-12 that `nunbirdctl schema` uses. An unknown keyword fails the
/// test.
fn check(schema: &Value, value: &Value, root: &Value, path: &str) -> Result<(), String> {
    let wrong = |what: &str| Err(format!("{path}: {what}: {value}"));
    for (word, rule) in schema.as_object().expect("a schema") {
        match word.as_str() {
            "$schema" | "$defs" | "title" | "description" | "deprecated" => {}
            "$ref" => {
                let pointer = rule.as_str().unwrap().strip_prefix('#').unwrap();
                check(root.pointer(pointer).expect("a definition"), value, root, path)?;
            }
            "type" => {
                let is = |name: &Value| match name.as_str().unwrap() {
                    "object" => value.is_object(),
                    "array" => value.is_array(),
                    "string" => value.is_string(),
                    "boolean" => value.is_boolean(),
                    "integer" => value.is_i64() || value.is_u64(),
                    "number" => value.is_number(),
                    other => panic!("unknown type {other}"),
                };
                let fits = rule.as_array().map_or_else(|| is(rule), |names| names.iter().any(is));
                if !fits {
                    return wrong(&format!("not of type {rule}"));
                }
            }
            "enum" if !rule.as_array().unwrap().contains(value) => return wrong("not one of the values"),
            "minimum" if value.as_i64().is_some_and(|n| n < rule.as_i64().unwrap()) => {
                return wrong("too small");
            }
            "maximum" if value.as_u64().is_some_and(|n| n > rule.as_u64().unwrap()) => {
                return wrong("too great");
            }
            "anyOf" if !rule.as_array().unwrap().iter().any(|s| check(s, value, root, path).is_ok()) => {
                return wrong("fits none");
            }
            "required"
                if rule.as_array().unwrap().iter().any(|key| value.get(key.as_str().unwrap()).is_none()) =>
            {
                return wrong("a key is missing");
            }
            "items" => {
                for (index, item) in value.as_array().into_iter().flatten().enumerate() {
                    check(rule, item, root, &format!("{path}[{index}]"))?;
                }
            }
            "properties" | "additionalProperties" => {
                let known = schema.get("properties").and_then(Value::as_object);
                for (key, item) in value.as_object().into_iter().flatten() {
                    let path = format!("{path}.{key}");
                    match (word.as_str(), known.and_then(|known| known.get(key)), rule) {
                        ("properties", Some(of_key), _) => check(of_key, item, root, &path)?,
                        ("additionalProperties", None, Value::Bool(false)) => {
                            return Err(format!("{path}: unknown"));
                        }
                        ("additionalProperties", None, rule) => check(rule, item, root, &path)?,
                        _ => {}
                    }
                }
            }
            "enum" | "minimum" | "maximum" | "anyOf" | "required" => {}
            other => panic!("the schema has a word that this test does not know: {other}"),
        }
    }
    Ok(())
}

fn to_json(value: &DeValue<'_>) -> Value {
    match value {
        DeValue::String(text) => json!(text),
        DeValue::Integer(number) => json!(i64::from_str_radix(number.as_str(), number.radix()).unwrap()),
        DeValue::Float(number) => json!(number.as_str().parse::<f64>().unwrap()),
        DeValue::Boolean(flag) => json!(flag),
        DeValue::Array(all) => all.iter().map(|one| to_json(one.get_ref())).collect(),
        DeValue::Table(table) => Value::Object(object(table)),
        other => panic!("{other:?}"),
    }
}

fn object(table: &DeTable<'_>) -> Map<String, Value> {
    table.iter().map(|(key, value)| (key.get_ref().to_string(), to_json(value.get_ref()))).collect()
}

/// A text of TOML.
pub(crate) fn read(text: &str) -> Value {
    let table = DeTable::parse(text).unwrap_or_else(|e| panic!("{e}\n{text}")).into_inner();
    Value::Object(object(&table))
}

fn validate(schema: &Value, text: &str) -> Result<(), String> {
    check(schema, &read(text), schema, "")
}

#[test]
fn every_example_of_the_documents_fits_the_schema() {
    let schema = Scene::new().run_bare(&["schema"]).json();
    let mut seen = 0;
    for document in [
        include_str!("../../docs/policy-reference.md"),
        include_str!("../../docs/admin-guide.md"),
        include_str!("../../docs/validation.md"),
    ] {
        for block in document.split("```toml\n").skip(1) {
            let text = block.split("```").next().unwrap();
            if !text.contains("[[runners]]") {
                seen += 1;
                validate(&schema, text).unwrap_or_else(|why| panic!("{why}\n{text}"));
            }
        }
    }
    assert!(seen >= 5, "{seen}");
    validate(&schema, include_str!("../../packaging/config.toml")).unwrap();
    validate(&schema, include_str!("../../policy/src/config/sample.toml")).unwrap();
}

#[test]
fn what_show_prints_of_a_full_configuration_fits_the_schema() {
    let scene = Scene::new();
    scene.configure(include_str!("../../policy/src/config/sample.toml"));
    let shown = scene.run(&["show"]);
    assert_eq!(shown.code, 0, "{shown:?}");
    validate(&scene.run_bare(&["schema"]).json(), &shown.out)
        .unwrap_or_else(|why| panic!("{why}\n{}", shown.out));
}

#[test]
fn the_schema_refuses_what_the_reader_refuses() {
    let scene = Scene::new();
    let schema = scene.run_bare(&["schema"]).json();
    validate(&schema, &scene.policy()).unwrap();
    for wrong in [
        "downscope = \"setuidd\"\n",
        "downscop = \"setuid\"\n",
        "[accounts]\nmin_uid = \"1000\"\n",
        "[accounts]\nmin_uid = -1\n",
        "[accounts]\nallow_bots = \"no\"\n",
        "[job]\nenvironment = { PATH = 7 }\n",
        "[audit]\nfile = 7\n",
        "[profile.big]\nshel = \"/bin/sh\"\n",
        "[[rule]]\nname = \"x\"\nwhen = { projekt = \"a\" }\ndeny = \"no\"\n",
        "[[rule]]\nname = \"x\"\nwhen = { project = { regexp = \"a\" } }\ndeny = \"no\"\n",
        "[[rule]]\nname = \"x\"\nrun_as = { mapp = \"a\" }\n",
        "[[test]]\nname = \"x\"\nclaims = { login = \"a\" }\nexpect = \"deny\"\n",
    ] {
        // Keys of the root stand before the first table.
        let text =
            if wrong.starts_with('[') { scene.policy() + wrong } else { wrong.to_owned() + &scene.policy() };
        assert!(validate(&schema, &text).is_err(), "the schema takes {wrong}");
        scene.configure(&text);
        assert_eq!(scene.run(&["check", "--no-host"]).code, 3, "the reader takes {wrong}");
    }
}

#[test]
fn the_schema_has_bounds_descriptions_and_former_names_as_the_reader_has_them() {
    let scene = Scene::new();
    let schema = scene.run_bare(&["schema"]).json();
    let limits = &schema["properties"]["limits"]["additionalProperties"]["properties"];
    assert_eq!((&limits["nice"]["minimum"], &limits["nice"]["maximum"]), (&json!(0), &json!(19)));
    assert_eq!(
        (&limits["way"]["deprecated"], &limits["cgroup_driver"]["deprecated"]),
        (&json!(true), &Value::Null)
    );
    assert!(
        limits["memory"]["description"].as_str().is_some_and(|text| text.contains("page cache")),
        "{limits}"
    );
    let profile = &schema["properties"]["profile"]["additionalProperties"]["properties"];
    assert!(
        profile["shell"]["description"].is_string()
            && profile["batch"]["properties"]["grace"]["description"].is_string()
    );
    for (lines, taken) in [
        ("[limits.a]\nway = \"v1\"\nabove = \"clamp\"\n", true),
        ("[limits.a]\ncgroup_driver = \"cgroupfs-v1\"\ncpus = 2.5\n", true),
        ("[limits.a]\ncpus = 2\n", true),
        ("[limits.a]\nnice = 20\n", false),
        ("[directories]\nmax_dirs = 0\n", false),
        ("[[rule]]\nname = \"r\"\nunless = { project = { regex = \"a\" } }\ndeny = \"no\"\n", true),
        ("[[rule]]\nname = \"r\"\nwhen = { uid = { regex = \"a\" } }\ndeny = \"no\"\n", false),
    ] {
        let text = scene.policy() + lines;
        assert_eq!(validate(&schema, &text).is_ok(), taken, "the schema: {lines}");
        let scene = Scene::new();
        scene.configure(&text);
        assert_eq!(scene.run(&["check", "--no-host"]).code == 0, taken, "the reader: {lines}");
    }
}
