// libsentencepiece.so carries a Protobuf runtime of another version than the one in our executables; both must work in
// one process (see sentencepiece_shim.h and the link option in CMakeLists.txt; without it SentencePiece refuses to load
// any model).
#include "master/text/text_test_util.h"
#include "protos/generation.pb.h"

namespace pangea {
namespace {

TEST(Link, TwoProtobufRuntimesLiveInOneProcess) {
  v1::ChatMessage message, again;
  message.set_role("user");
  ASSERT_TRUE(again.ParseFromString(message.SerializeAsString()));
  EXPECT_EQ(again.role(), "user");
  EXPECT_NE(again.DebugString(), "");  // by reflection: descriptors are there, too
  EXPECT_EQ(Ids(Mistral(), "Hello", true), (std::vector<int32_t>{1, 22557}));
}

}  // namespace
}  // namespace pangea
