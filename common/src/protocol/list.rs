//! Lists of what a peer sends, bounded as they are read.

use std::{fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{Error, SeqAccess, Visitor},
};

/// Reads a list of at most `MOST` elements, for serde's `deserialize_with`. A longer one is refused; room is made for `MOST`
/// at most, whatever length the peer claims.
pub(super) fn at_most<'de, const MOST: usize, T, D>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    deserializer.deserialize_seq(AtMost::<MOST, T>(PhantomData))
}

struct AtMost<const MOST: usize, T>(PhantomData<T>);

impl<'de, const MOST: usize, T: Deserialize<'de>> Visitor<'de> for AtMost<MOST, T> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a list of at most {MOST}")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Vec<T>, A::Error> {
        let claimed = elements.size_hint().unwrap_or(0);
        if claimed > MOST {
            return Err(A::Error::invalid_length(claimed, &self));
        }
        let mut list = Vec::with_capacity(claimed);
        while let Some(element) = elements.next_element()? {
            if list.len() == MOST {
                return Err(A::Error::invalid_length(MOST + 1, &self));
            }
            list.push(element);
        }
        Ok(list)
    }
}

#[cfg(test)]
mod tests {
    use serde::Serialize;

    use super::*;
    use crate::protocol::{
        session::{Control, Entry, MOST_ENTRIES, StreamAck},
        workload::{
            EngineChoice, Event, GpuAsk, JupyterKind, MOST_LISTED, PullPolicy, Ready, Volume, WorkloadSpec,
        },
    };

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Few(#[serde(deserialize_with = "at_most::<3, _, _>")] Vec<u64>);

    fn through<T: Serialize + for<'de> Deserialize<'de>>(value: &T) -> Result<T, postcard::Error> {
        postcard::from_bytes(&postcard::to_stdvec(value).unwrap())
    }

    #[test]
    fn a_list_is_read_up_to_its_bound_and_looks_on_the_wire_as_any_other() {
        for length in 0..=3 {
            let few = Few((0..length).collect());
            assert_eq!(through(&few).unwrap(), few);
            assert_eq!(
                postcard::to_stdvec(&few).unwrap(),
                postcard::to_stdvec(&few.0).unwrap()
            );
        }
        assert!(through(&Few((0..4).collect())).is_err());
    }

    #[test]
    fn a_list_that_only_claims_to_be_long_is_refused() {
        // 2^32 - 1 elements, as a varint.
        assert!(postcard::from_bytes::<Few>(&[0xff, 0xff, 0xff, 0xff, 0x0f, 1]).is_err());
        assert!(postcard::from_bytes::<Few>(&[3, 1]).is_err());
    }

    fn spec() -> WorkloadSpec {
        WorkloadSpec {
            session: "s".into(),
            engine: EngineChoice::Auto,
            existing_container: None,
            image: None,
            pull: PullPolicy::Missing,
            gpus: GpuAsk::None,
            volumes: Vec::new(),
            env: Vec::new(),
            workdir: None,
            shm_size: None,
            user: None,
            jupyter: JupyterKind::Lab,
        }
    }

    #[test]
    fn no_list_of_a_message_is_longer_than_the_protocol_says() {
        let pair = (String::new(), String::new());
        let volume = Volume {
            source: String::new(),
            destination: String::new(),
            read_only: false,
        };
        let entry = Entry {
            stream: 1,
            delivered: 0,
            received: 0,
            ended: false,
            reset: None,
        };
        let acks = StreamAck {
            stream: 1,
            delivered: 0,
            ended: false,
        };
        for (over, is_read) in [(0, true), (1, false)] {
            let many = MOST_LISTED + over;
            let with = |change: &dyn Fn(&mut WorkloadSpec)| {
                let mut spec = spec();
                change(&mut spec);
                through(&spec).is_ok()
            };
            assert_eq!(with(&|spec| spec.env = vec![pair.clone(); many]), is_read);
            assert_eq!(with(&|spec| spec.volumes = vec![volume.clone(); many]), is_read);
            assert_eq!(
                with(&|spec| spec.gpus = GpuAsk::Ids(vec![String::new(); many])),
                is_read
            );
            let ready = Event::Ready(Box::new(Ready {
                engine: String::new(),
                container: None,
                jupyter: None,
                gpus: vec![String::new(); many],
            }));
            assert_eq!(through(&ready).is_ok(), is_read);

            let many = MOST_ENTRIES + over;
            let table = Control::Table {
                entries: vec![entry; many],
                last: true,
            };
            assert_eq!(through(&table).is_ok(), is_read);
            assert_eq!(through(&Control::Acks(vec![acks; many])).is_ok(), is_read);
        }
    }
}
