# cmake -DSOURCE=… -DBUILD_TYPE=… -DOUT=… -P commit.cmake: what `pangea version` tells of this build, as a source file that is written anew only
# when it differs. Outside a repository (an unpacked archive) the commit is not known.
set(commit "unknown")
find_program(GIT git)
if(GIT AND EXISTS ${SOURCE}/.git)
  # The user who builds need not be the one who owns the files.
  execute_process(COMMAND ${GIT} -c safe.directory=* -C ${SOURCE} describe --always --dirty --abbrev=12 --exclude=*
    OUTPUT_VARIABLE found OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET RESULT_VARIABLE failed)
  if(NOT failed)
    set(commit ${found})
  endif()
endif()
file(CONFIGURE OUTPUT ${OUT} @ONLY CONTENT [[// Written by tools/commit.cmake.
namespace pangea {
extern const char kCommit[];
extern const char kBuildType[];
const char kCommit[] = "@commit@";
const char kBuildType[] = "@BUILD_TYPE@";
}  // namespace pangea
]])
