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
            "$schema" | "$defs" | "title" | "description" | "deprecated" | "default" => {}
            "pattern" => {
                if value.as_str().is_some_and(|text| !fits(rule.as_str().unwrap(), text)) {
                    return wrong("does not fit the pattern");
                }
            }
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

/// The patterns of the schema, of which no library is needed for a test.
fn fits(pattern: &str, text: &str) -> bool {
    use nunbird_policy::read_duration;
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let amount = |text: &str| {
        let unit = text.trim_start_matches(|c: char| c.is_ascii_digit());
        let plain = unit.strip_prefix(' ').unwrap_or(unit);
        unit.len() < text.len() && ["K", "M", "G", "T", "KiB", "MiB", "GiB", "TiB"].contains(&plain)
    };
    match pattern {
        "^[0-9]+$" => digits(text),
        "^[0-9]+([.][0-9]{1,3})?$" => {
            let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
            digits(whole) && digits(part) && part.len() < 4
        }
        "^[0-9]+ ?[KMGT](iB)?$" => amount(text),
        "^([0-9]+ ?[KMGT](iB)?|unlimited)$" => amount(text) || text == "unlimited",
        "^([0-9]+ ?[wdhms] ?)*[0-9]+ ?[wdhms]$" => read_duration(text).is_some(),
        other => panic!("unknown pattern {other}"),
    }
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
        "[accounts]\nmin_uid = \"a thousand\"\n",
        "[accounts]\nmin_uid = 1000.0\n",
        "[limits.a]\nmemory = 4\n",
        "[limits.a]\nmemory = \"4GB\"\n",
        "[identity]\nclock_skew = \"1\"\n",
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

/// Each key, its path, and how it is described.
fn each_key(schema: &Value, path: &str, see: &mut impl FnMut(&str, &Value)) {
    for (key, of_key) in schema["properties"].as_object().into_iter().flatten() {
        let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        see(&path, of_key);
        let any = of_key["anyOf"].as_array().into_iter().flatten();
        for below in any.chain([of_key, &of_key["items"], &of_key["additionalProperties"]]) {
            each_key(below, &path, see);
        }
    }
}

#[test]
fn every_key_has_a_description_and_a_default() {
    let schema = Scene::new().run_bare(&["schema"]).json();
    let (mut seen, mut wanting) = (0, Vec::new());
    each_key(&schema, "", &mut |path, key| {
        seen += 1;
        let text = key["description"].as_str().unwrap_or_default();
        let described =
            text.starts_with(|c: char| !c.is_lowercase()) && text.ends_with('.') && text.len() > 5;
        let is_former = key["deprecated"] == true;
        let default = key.get("default").is_some() || text.contains(" Default: ");
        if !(is_former || described && default) {
            wanting.push(format!("{path}: {text}"));
        }
        // A default is a value of the key.
        if let Some(default) = key.get("default") {
            check(key, default, &schema, path).unwrap_or_else(|why| panic!("{why}"));
        }
    });
    assert!(seen > 200, "{seen}");
    assert!(wanting.is_empty(), "{wanting:#?}");
}
