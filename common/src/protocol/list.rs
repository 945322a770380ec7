//! Lists of what a peer sends, bounded as they are read.

use std::{fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{Error, IgnoredAny, SeqAccess, Visitor},
};

/// Reads a list of at most `MOST` elements, for serde's `deserialize_with`. A longer one is refused; room is made for `MOST`
/// at most, whatever length the peer claims.
pub(crate) fn at_most<'de, const MOST: usize, T, D>(deserializer: D) -> Result<Vec<T>, D::Error>
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

/// Reads a list and keeps the first `MOST` elements, for a list in JSON that a newer peer may make longer.
pub(crate) fn first<'de, const MOST: usize, T, D>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    deserializer.deserialize_seq(First::<MOST, T>(PhantomData))
}

struct First<const MOST: usize, T>(PhantomData<T>);

impl<'de, const MOST: usize, T: Deserialize<'de>> Visitor<'de> for First<MOST, T> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Vec<T>, A::Error> {
        let mut list = Vec::new();
        while list.len() < MOST
            && let Some(element) = elements.next_element()?
        {
            list.push(element);
        }
        while elements.next_element::<IgnoredAny>()?.is_some() {}
        Ok(list)
    }
}

#[cfg(test)]
mod tests {
    use serde::Serialize;

    use super::*;
    use crate::{
        codec::{Frame, FrameError},
        protocol::{
            exec::{ExecSpec, MOST_WORDS},
            session::{Control, Entry, MOST_ENTRIES, StreamAck},
            topics::{MOST_TOPICS, Topic},
            workload::{Event, GpuAsk, MOST_LISTED, MOST_OPTIONS, Ready, Volume, WorkloadSpec},
        },
    };

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Few(#[serde(deserialize_with = "at_most::<3, _, _>")] Vec<u64>);

    fn read(few: &Few) -> Result<Few, postcard::Error> {
        postcard::from_bytes(&postcard::to_stdvec(few).unwrap())
    }

    #[test]
    fn a_list_is_read_up_to_its_bound_and_looks_on_the_wire_as_any_other() {
        for length in 0..=3 {
            let few = Few((0..length).collect());
            assert_eq!(read(&few).unwrap(), few);
            assert_eq!(
                postcard::to_stdvec(&few).unwrap(),
                postcard::to_stdvec(&few.0).unwrap()
            );
        }
        assert!(read(&Few((0..4).collect())).is_err());
    }

    #[test]
    fn a_list_that_only_claims_to_be_long_is_refused() {
        // 2^32 - 1 elements, as a varint.
        assert!(postcard::from_bytes::<Few>(&[0xff, 0xff, 0xff, 0xff, 0x0f, 1]).is_err());
        assert!(postcard::from_bytes::<Few>(&[3, 1]).is_err());
    }

    #[test]
    fn no_list_of_a_message_is_longer_than_the_protocol_says() {
        let pair = (String::new(), String::new());
        let volume = Volume::default();
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
        fn through<T: Frame>(value: &T) -> Result<T, FrameError> {
            T::decode(&value.append_to(Vec::new())?)
        }
        for (over, is_read) in [(0, true), (1, false)] {
            let many = MOST_LISTED + over;
            let with = |change: &dyn Fn(&mut WorkloadSpec)| {
                let mut spec = WorkloadSpec::default();
                change(&mut spec);
                through(&spec).is_ok()
            };
            assert_eq!(with(&|spec| spec.env = vec![pair.clone(); many]), is_read);
            assert_eq!(with(&|spec| spec.volumes = vec![volume.clone(); many]), is_read);
            let optioned = Volume {
                options: vec![String::new(); MOST_OPTIONS + over],
                ..Volume::default()
            };
            assert_eq!(with(&|spec| spec.volumes = vec![optioned.clone()]), is_read);
            assert_eq!(
                with(&|spec| spec.gpus = GpuAsk::Ids(vec![String::new(); many])),
                is_read
            );
            let ready = Event::Ready(Box::new(Ready {
                gpus: vec![String::new(); many],
                ..Ready::default()
            }));
            assert_eq!(through(&ready).is_ok(), is_read);
            let exec = ExecSpec {
                argv: vec![String::new(); MOST_WORDS + over],
                ..ExecSpec::default()
            };
            assert_eq!(through(&exec).is_ok(), is_read);

            let many = MOST_ENTRIES + over;
            let table = Control::Table {
                entries: vec![entry; many],
                last: true,
            };
            assert_eq!(through(&table).is_ok(), is_read);
            assert_eq!(through(&Control::Acks(vec![acks; many])).is_ok(), is_read);
            let topics = vec![Topic::Workload; MOST_TOPICS + over];
            assert_eq!(through(&Control::Subscribe { topics }).is_ok(), is_read);
        }
    }

    #[test]
    fn what_a_newer_peer_lists_beyond_what_is_kept_is_passed_over() {
        #[derive(Debug, PartialEq, Deserialize)]
        struct Some {
            #[serde(deserialize_with = "first::<2, _, _>")]
            list: Vec<u8>,
            after: bool,
        }
        let text = r#"{"list":[1,2,300,{"a":[]}],"after":true}"#;
        let read: Some = serde_json::from_str(text).unwrap();
        assert_eq!((read.list, read.after), (vec![1, 2], true));
    }
}
